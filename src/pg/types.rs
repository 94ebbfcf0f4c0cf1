//! Types of columns: how SQL names, casts and compares them.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::text::from_server;

/// A type that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Type(pub(crate) pg_sys::Oid);

impl Type {
    pub(crate) const SMALLINT: Self = Self(pg_sys::INT2OID);
    pub(crate) const INTEGER: Self = Self(pg_sys::INT4OID);
    pub(crate) const BIGINT: Self = Self(pg_sys::INT8OID);
    pub(crate) const NUMERIC: Self = Self(pg_sys::NUMERICOID);
    pub(crate) const REAL: Self = Self(pg_sys::FLOAT4OID);
    pub(crate) const DOUBLE: Self = Self(pg_sys::FLOAT8OID);

    /// Its name for SQL: right under any `search_path`, and without a length or precision that a cast would cut to.
    pub(crate) fn sql(self) -> String {
        let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
        // SAFETY: the type exists; returns a palloc'd string that ends with NUL.
        from_server(unsafe {
            CStr::from_ptr(pg_sys::format_type_extended(self.0, -1, flags as pg_sys::bits16))
        })
    }

    /// Its name for messages.
    pub(crate) fn name(self) -> String {
        // SAFETY: the type exists; returns a palloc'd string that ends with NUL.
        from_server(unsafe { CStr::from_ptr(pg_sys::format_type_be(self.0)) })
    }

    /// Its own equality as `OPERATOR(…)`, if it has one.
    pub(crate) fn equality(self) -> Option<String> {
        // SAFETY: looks the type up; the entry lives as long as the process.
        let operator =
            unsafe { (*pg_sys::lookup_type_cache(self.0, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr };
        (operator != pg_sys::InvalidOid).then(|| operator_sql(operator))?
    }

    /// SQL for a value as bytes that are equal only if the values are stored alike; its own binary output.
    pub(crate) fn binary(self, value: &str) -> String {
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: raises an error unless the type has such a function, which then exists; names end with NUL.
        unsafe {
            pg_sys::getTypeBinaryOutputInfo(self.0, &mut function, &mut is_varlena);
            let schema = pg_sys::get_namespace_name(pg_sys::get_func_namespace(function));
            let name = pg_sys::quote_qualified_identifier(schema, pg_sys::get_func_name(function));
            format!("{}({value})", from_server(CStr::from_ptr(name)))
        }
    }

    /// Whether its values can be sorted.
    pub(crate) fn has_order(self) -> bool {
        // SAFETY: as above.
        unsafe {
            (*pg_sys::lookup_type_cache(self.0, pg_sys::TYPECACHE_LT_OPR as i32)).lt_opr != pg_sys::InvalidOid
        }
    }

    /// Whether its values are compared by a collation.
    pub(crate) fn is_collatable(self) -> bool {
        // SAFETY: looks the type up.
        unsafe { pg_sys::get_typcollation(self.0) != pg_sys::InvalidOid }
    }

    /// Whether the server casts to the other type wherever that is needed: without loss, as a rule.
    pub(crate) fn becomes(self, other: Self) -> bool {
        self.coerces(other, pg_sys::CoercionContext::COERCION_IMPLICIT)
    }

    /// Whether `CAST` can make the other type of it.
    pub(crate) fn casts_to(self, other: Self) -> bool {
        self.coerces(other, pg_sys::CoercionContext::COERCION_EXPLICIT)
    }

    fn coerces(self, other: Self, context: pg_sys::CoercionContext::Type) -> bool {
        // SAFETY: one type each.
        unsafe { pg_sys::can_coerce_type(1, &self.0, &other.0, context) }
    }
}

/// One of pgvector's types that vectors are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VectorKind {
    Vector,
    Halfvec,
}

/// `OPERATOR(schema.name)`, which does not depend on the `search_path`.
pub(super) fn operator_sql(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: an operator's tuple holds its form until it is released; names end with NUL.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::OPEROID as i32, oid.into());
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_operator>(tuple);
        let name = from_server(CStr::from_ptr((*form).oprname.data.as_ptr()));
        let schema = pg_sys::get_namespace_name((*form).oprnamespace);
        pg_sys::ReleaseSysCache(tuple);
        (!schema.is_null()).then(|| {
            let schema = from_server(CStr::from_ptr(pg_sys::quote_identifier(schema)));
            format!("OPERATOR({schema}.{name})")
        })
    }
}

/// Whether this is pgvector's type `vector`.
pub(crate) fn is_vector(oid: pg_sys::Oid) -> bool {
    vector_kind(oid) == Some(VectorKind::Vector)
}

/// Which of pgvector's types this is. By its name in the extension `vector`, wherever that is installed.
pub(super) fn vector_kind(oid: pg_sys::Oid) -> Option<VectorKind> {
    // SAFETY: lookups in the catalogs; a type's tuple holds its form until it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as i32, oid.into());
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_type>(tuple);
        let kind = match CStr::from_ptr((*form).typname.data.as_ptr()).to_bytes() {
            b"vector" => Some(VectorKind::Vector),
            b"halfvec" => Some(VectorKind::Halfvec),
            _ => None,
        };
        pg_sys::ReleaseSysCache(tuple);
        kind.filter(|_| {
            let extension = pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, oid);
            extension != pg_sys::InvalidOid
                && extension == pg_sys::get_extension_oid(c"vector".as_ptr(), true)
        })
    }
}

/// Whether the domain, or one it is made over, is NOT NULL.
///
/// # Safety
///
/// `oid` must be a type that exists.
pub(super) unsafe fn is_not_null_domain(oid: pg_sys::Oid) -> bool {
    // SAFETY: a type's tuple holds its form until it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as i32, oid.into());
        if tuple.is_null() {
            return false;
        }
        let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_type>(tuple);
        let (not_null, base) = ((*form).typnotnull, (*form).typbasetype);
        pg_sys::ReleaseSysCache(tuple);
        not_null || (base != pg_sys::InvalidOid && is_not_null_domain(base))
    }
}
