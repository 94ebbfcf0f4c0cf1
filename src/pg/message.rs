//! Messages in the server's encoding, and SQLSTATEs of users' own.
//!
//! pgrx carries messages, those of the server's own errors, too, as Rust's strings, and gives their bytes to the server
//! as they are. In a database with another encoding than UTF8 they would not be characters there. So pgrx gets a message
//! with escapes, and the real one is put in its place at the last moment: while PostgreSQL reports, it calls what is in
//! `error_context_stack`, and there a message can be replaced. So can an SQLSTATE that pgrx does not know, such as one of
//! a user's function, which it would make an internal error.

use std::cell::{RefCell, UnsafeCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::null_mut;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use super::text::{escaped, is_utf8, to_server_or_escaped};

mod c {
    use std::ffi::c_int;

    // pgrx leaves it out.
    unsafe extern "C-unwind" {
        pub(super) fn errcode(code: c_int) -> c_int;
    }
}

/// A message and what goes with it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) code: PgSqlErrorCode,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

/// Message, detail and hint.
type Texts<T> = [Option<T>; 3];

/// A message as it is to be reported instead of the one that pgrx carries.
struct Real {
    carried: Texts<String>,
    texts: Texts<CString>,
    /// The code of an error of the server's.
    code: Option<c_int>,
}

thread_local! {
    static REAL: RefCell<Option<Real>> = const { RefCell::new(None) };
    /// The server's list points to it, so that it has to stay where it is.
    static LINK: UnsafeCell<pg_sys::ErrorContextCallback> = const {
        UnsafeCell::new(pg_sys::ErrorContextCallback { previous: null_mut(), callback: Some(on_report), arg: null_mut() })
    };
}

impl Message {
    /// Reports the message; an ERROR does not return.
    pub(crate) fn report(self, level: PgLogLevel) {
        let Self { code, message, detail, hint } = self;
        let texts = [Some(message), detail, hint];
        let carried = texts.each_ref().map(|text| text.as_deref().map(escaped));
        let [message, detail, hint] = carried.clone();
        let mut report = ErrorReport::new(code, message.unwrap_or_default(), "vector_embed");
        if let Some(detail) = detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        let _watch = (!is_utf8()).then(|| {
            let texts = texts.map(|text| text.as_deref().map(to_server_or_escaped));
            REAL.set(Some(Real { carried, texts, code: None }));
            Watch::new()
        });
        report.report(level);
    }
}

/// While it lives, and beyond that if an error ends it, errors of the server keep their characters and codes.
#[derive(Debug)]
pub(crate) struct Watch(());

impl Watch {
    pub(crate) fn new() -> Self {
        let link = LINK.with(UnsafeCell::get);
        // SAFETY: the list consists of structures in frames that are still there, and of ours, which is static. Whoever
        // put one in front of ours takes it away again by what it had found. Ours is never put in twice.
        unsafe {
            let mut known = pg_sys::error_context_stack;
            while !known.is_null() && known != link {
                known = (*known).previous;
            }
            if known.is_null() {
                (*link).previous = pg_sys::error_context_stack;
                pg_sys::error_context_stack = link;
            }
        }
        Self(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let link = LINK.with(UnsafeCell::get);
        // SAFETY: as above. An error on its way has still to be reported; who takes it up sets the list anew.
        unsafe {
            if !std::thread::panicking() && pg_sys::error_context_stack == link {
                pg_sys::error_context_stack = (*link).previous;
            }
        }
    }
}

/// Called by the server with each report: when it is first raised, and when pgrx raises it again.
unsafe extern "C-unwind" fn on_report(_: *mut c_void) {
    // SAFETY: a report is under way, whose copy is made in a memory context that lives on. The functions that set its
    // texts copy them.
    unsafe {
        let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let report = pg_sys::CopyErrorData();
        pg_sys::MemoryContextSwitchTo(before);
        let text = |text: *mut c_char| (!text.is_null()).then(|| CStr::from_ptr(text).to_owned());
        let texts = [(*report).message, (*report).detail, (*report).hint].map(text);
        // As pgrx will have it, or has it.
        let carried = texts.each_ref().map(|text| Some(text.as_ref()?.to_string_lossy().into_owned()));
        let code = (*report).sqlerrcode;
        REAL.with_borrow_mut(|real| match real {
            Some(Real { carried: known, texts: [message, detail, hint], code: known_code })
                if *known == carried =>
            {
                // What pgrx makes of a code that it does not know. Another error of the same words has its own.
                if let Some(known) =
                    known_code.filter(|_| code == PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as i32)
                {
                    c::errcode(known);
                }
                if let Some(message) = message {
                    pg_sys::errmsg_internal(c"%s".as_ptr(), message.as_ptr());
                }
                if let Some(detail) = detail {
                    pg_sys::errdetail_internal(c"%s".as_ptr(), detail.as_ptr());
                }
                if let Some(hint) = hint {
                    pg_sys::errhint_plural(c"%s".as_ptr(), c"%s".as_ptr(), 1, hint.as_ptr());
                }
            }
            _ if (*report).elevel >= PgLogLevel::ERROR as i32 => {
                *real = Some(Real { carried, texts, code: Some(code) });
            }
            _ => {}
        });
        pg_sys::FreeErrorData(report);
    }
}
