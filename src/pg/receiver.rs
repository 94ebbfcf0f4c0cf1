//! Giving the rows of a query to a tuplestore.

use std::ffi::CStr;

use pgrx::pg_sys;

mod c {
    use std::ffi::c_char;

    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        // Of executor/tstoreReceiver.h, which pgrx does not bind.
        pub(super) fn SetTuplestoreDestReceiverParams(
            receiver: *mut pg_sys::DestReceiver,
            store: *mut pg_sys::Tuplestorestate,
            context: pg_sys::MemoryContext,
            detoast: bool,
            target: pg_sys::TupleDesc,
            message: *const c_char,
        );
    }
}

/// A receiver that puts rows to `store`, which is in the memory context `context`. Where `target` is given, rows of
/// other types are an error with its message.
///
/// # Safety
///
/// `store`, `context` and `target` must live as long as the receiver is used.
pub(super) unsafe fn into_store(
    store: *mut pg_sys::Tuplestorestate,
    context: pg_sys::MemoryContext,
    target: Option<(pg_sys::TupleDesc, &'static CStr)>,
) -> *mut pg_sys::DestReceiver {
    let (descriptor, message) =
        target.map_or((std::ptr::null_mut(), std::ptr::null()), |(of, message)| (of, message.as_ptr()));
    // SAFETY: the caller's promise; the receiver is one for tuplestores.
    unsafe {
        let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestTuplestore);
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            c::SetTuplestoreDestReceiverParams(receiver, store, context, false, descriptor, message);
        });
        receiver
    }
}
