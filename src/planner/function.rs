//! Which functions can be computed for many rows at once.

use std::ffi::CStr;

use pgrx::pg_sys;
use vector_embed_protocol::Purpose;

use crate::pg::message::Watch;

/// What a function of this extension computes from a text, and perhaps the name of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) purpose: Purpose,
    pub(super) names_model: bool,
}

impl Signature {
    /// As a plan carries it.
    pub(super) fn to_number(self) -> i32 {
        i32::from(self.purpose == Purpose::Query) | i32::from(self.names_model) << 1
    }

    /// What [`Self::to_number`] gave.
    pub(super) fn from_number(number: i32) -> Self {
        let purpose = if number & 1 == 0 { Purpose::Document } else { Purpose::Query };
        Self { purpose, names_model: number & 2 != 0 }
    }
}

/// The signature of `embed` or `embed_query` over a text; `None` for all other functions, and for these if they were
/// altered to run as another user or with other settings, or not to be STRICT.
///
/// # Safety
///
/// Must be called where catalogs can be read.
pub(super) unsafe fn signature(function: pg_sys::Oid) -> Option<Signature> {
    if function.to_u32() < pg_sys::FirstNormalObjectId {
        return None;
    }
    // SAFETY: a function's tuple holds its form and attributes until it is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as _;
        let tuple = pg_sys::SearchSysCache1(cache, function.into());
        if tuple.is_null() {
            return None;
        }
        let form = &*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_proc>(tuple);
        let plain = form.prosupport != pg_sys::InvalidOid
            && form.proisstrict
            && !form.prosecdef
            && !form.proretset
            && attribute_is_null(tuple, pg_sys::Anum_pg_proc_proconfig);
        let signature = if plain { by_symbol(tuple) } else { None };
        pg_sys::ReleaseSysCache(tuple);
        // Last, because it reads a table. Others may be made from our library, but only ours are members.
        signature.filter(|_| {
            let extension = pg_sys::getExtensionOfObject(pg_sys::ProcedureRelationId, function);
            extension != pg_sys::InvalidOid
                && extension == pg_sys::get_extension_oid(c"vector_embed".as_ptr(), true)
        })
    }
}

/// # Safety
///
/// `tuple` must be one of pg_proc from the cache.
unsafe fn by_symbol(tuple: pg_sys::HeapTuple) -> Option<Signature> {
    let signature = |purpose, names_model| Some(Signature { purpose, names_model });
    // SAFETY: a function's source is never NULL, and a text.
    unsafe {
        let mut is_null = false;
        let cache = pg_sys::SysCacheIdentifier::PROCOID as _;
        let source = pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_proc_prosrc as i16, &mut is_null);
        let source = pg_sys::text_to_cstring(source.cast_mut_ptr());
        let signature = match CStr::from_ptr(source).to_bytes() {
            b"embed_wrapper" => signature(Purpose::Document, false),
            b"embed_with_model_wrapper" => signature(Purpose::Document, true),
            b"embed_query_wrapper" => signature(Purpose::Query, false),
            b"embed_query_with_model_wrapper" => signature(Purpose::Query, true),
            _ => None,
        };
        pg_sys::pfree(source.cast());
        signature
    }
}

/// # Safety
///
/// `tuple` must be one of pg_proc from the cache, and `number` one of its columns.
unsafe fn attribute_is_null(tuple: pg_sys::HeapTuple, number: u32) -> bool {
    let mut is_null = false;
    // SAFETY: the caller's promise.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as _;
        pg_sys::SysCacheGetAttr(cache, tuple, number as i16, &mut is_null);
    }
    is_null
}

/// Raises PostgreSQL's own error unless the current user may execute the function, and tells who watches executions
/// (`object_access_hook`), as the executor does for functions that it calls itself.
///
/// # Safety
///
/// The function must exist.
pub(super) unsafe fn check_execute(function: pg_sys::Oid) {
    // SAFETY: the caller's promise.
    unsafe {
        let (user, mode) = (pg_sys::GetUserId(), pg_sys::ACL_EXECUTE as pg_sys::AclMode);
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let result = pg_sys::pg_proc_aclcheck(function, user, mode);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, user, mode);
        if result != pg_sys::AclResult::ACLCHECK_OK {
            let name = pg_sys::get_func_name(function);
            let _watch = Watch::new();
            pg_sys::aclcheck_error(result, pg_sys::ObjectType::OBJECT_FUNCTION, name);
        }
        let watcher = pg_sys::object_access_hook;
        if watcher.is_some() {
            pg_sys::RunFunctionExecuteHook(function);
        }
    }
}
