//! The transaction that is under way, and its parts.

use std::panic::AssertUnwindSafe;
use std::ptr::null_mut;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};

use crate::error::{Error, Failure};

mod c {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        // Of catalog/pg_inherits.h, which pgrx does not bind.
        pub(super) fn find_all_inheritors(
            parent: pg_sys::Oid,
            lock: pg_sys::LOCKMODE,
            counts: *mut *mut pg_sys::List,
        ) -> *mut pg_sys::List;
    }
}

/// A subtransaction, or the transaction itself, told from all others of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subtransaction {
    /// Start of the transaction; subtransactions are numbered within it.
    start: pg_sys::TimestampTz,
    number: pg_sys::SubTransactionId,
}

impl Subtransaction {
    pub(crate) fn current() -> Self {
        // SAFETY: reads variables of the process.
        let number = unsafe { pg_sys::GetCurrentSubTransactionId() };
        Self { start: start(), number }
    }

    /// Whether it has not ended.
    pub(crate) fn is_active(self) -> bool {
        // SAFETY: looks through the transactions under way.
        self.start == start() && unsafe { pg_sys::SubTransactionIsActive(self.number) }
    }
}

fn start() -> pg_sys::TimestampTz {
    // SAFETY: reads a variable of the process.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// Calls `work` in a subtransaction of its own. If it fails, all that it did is undone. Cancels and the like are no
/// failures of the work: they are passed on.
pub(crate) fn attempt<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    // SAFETY: as PL/pgSQL does it for a block with EXCEPTION. The subtransaction ends here, either way, and memory
    // context and resource owner are again what they were.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        let contexts = pg_sys::error_context_stack;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let work = AssertUnwindSafe(work);
        let outcome = PgTryBuilder::new(move || {
            let whole = work;
            Ok((whole.0)().map_err(|error| error.failure()))
        })
        .catch_others(|caught| Err(Box::new(caught)))
        .execute();
        // Also where the error is passed on: PostgreSQL itself ends only the subtransactions that SQL has begun, and would
        // leave the session in the midst of this one.
        match &outcome {
            Ok(Ok(_)) => pg_sys::ReleaseCurrentSubTransaction(),
            Ok(Err(_)) | Err(_) => {
                pg_sys::error_context_stack = contexts;
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        let caught = match outcome {
            Ok(outcome) => return outcome,
            Err(caught) => *caught,
        };
        match caught {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
                if !ends_everything(report.sql_error_code()) =>
            {
                Err(Failure::new(report.sql_error_code(), report.message().to_owned()))
            }
            other => other.rethrow(),
        }
    }
}

/// Whether an error is none of the work's: it was cancelled, the server shuts down, or the disk is full.
fn ends_everything(code: PgSqlErrorCode) -> bool {
    matches!(
        code,
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED
            | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_CANNOT_CONNECT_NOW
            | PgSqlErrorCode::ERRCODE_DATABASE_DROPPED
            | PgSqlErrorCode::ERRCODE_DISK_FULL
            | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
    )
}

/// Raises PostgreSQL's own error where nothing can be written.
pub(crate) fn refuse_on_standby(command: &std::ffi::CStr) {
    // SAFETY: a string that ends with NUL.
    unsafe { pg_sys::PreventCommandDuringRecovery(command.as_ptr()) };
}

/// The transaction of a procedure that commits in between.
#[derive(Debug)]
pub(crate) struct Committing(());

impl Committing {
    /// Begins, if the procedure was not called within a transaction block or by a function.
    pub(crate) fn begin(
        procedure: &'static str,
        call: &super::procedure::ProcedureCall,
    ) -> Result<Self, Error> {
        if call.is_atomic() {
            return Err(Error::Atomic(procedure));
        }
        // SAFETY: ended by the end of this value, or else of the transaction.
        super::spi::check(unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) })?;
        let committing = Self(());
        // SAFETY: reads a variable of the process.
        if unsafe { pg_sys::XactIsoLevel } != pg_sys::XACT_READ_COMMITTED as i32 {
            // This transaction has its snapshot already. The next one has not.
            committing.commit();
            committing.look();
        }
        Ok(committing)
    }

    /// Commits and begins the next transaction, which has no snapshot until [`Self::look`]. It is READ COMMITTED whatever
    /// the session's default is: what others write between two batches is no reason to fail.
    pub(crate) fn commit(&self) {
        // SAFETY: this value's connection is the current one; a transaction's isolation can be set as long as it has no
        // snapshot.
        unsafe {
            pg_sys::SPI_commit();
            pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
        }
    }

    /// Takes a snapshot that lasts until the transaction ends, for what is looked up in it.
    pub(crate) fn look(&self) {
        // SAFETY: a procedure runs in a portal.
        unsafe { pg_sys::EnsurePortalSnapshotExists() };
    }
}

/// Waits until all transactions have ended that may have written to a table, or to one that inherits from it, before
/// this is called, as CREATE INDEX CONCURRENTLY does. Needs a transaction, which must have no snapshot: others may wait
/// for it to end.
pub(crate) fn wait_for_writers(relation: pg_sys::Oid) {
    // SAFETY: the list is of this call's, and holds relations; a lock's name that none has is waited for by nobody.
    unsafe {
        let relations = c::find_all_inheritors(relation, pg_sys::NoLock as pg_sys::LOCKMODE, null_mut());
        for place in 0..pg_sys::list_length(relations) {
            let tag = pg_sys::LOCKTAG {
                locktag_field1: pg_sys::MyDatabaseId.to_u32(),
                locktag_field2: pg_sys::list_nth_oid(relations, place).to_u32(),
                locktag_field3: 0,
                locktag_field4: 0,
                locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
                locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
            };
            // What was looked up in catalogs is a snapshot, too.
            pg_sys::InvalidateCatalogSnapshot();
            pg_sys::WaitForLockers(tag, pg_sys::ShareLock as pg_sys::LOCKMODE, false);
        }
        pg_sys::list_free(relations);
    }
}

/// Takes the lock that tells who works at something, until the transaction ends; `object` is one of those that
/// `class` holds. Nothing is held up by it: whoever does not get it knows that somebody else works at it. Returns whether
/// it was free.
pub(crate) fn lock_work(class: pg_sys::Oid, object: u32) -> bool {
    // SAFETY: a lock of the kind that objects have which are no relations, as `LockDatabaseObject` takes it.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: class.to_u32(),
            locktag_field3: object,
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
        let result = pg_sys::LockAcquire(&tag, mode, false, true);
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        // After an error the end of the transaction closes it.
        if !std::thread::panicking() {
            // SAFETY: there is a connection. What comes behind is as isolated as the session wants it, if it has not begun.
            unsafe {
                pg_sys::SPI_finish();
                if !pg_sys::FirstSnapshotSet {
                    pg_sys::XactIsoLevel = pg_sys::DefaultXactIsoLevel;
                }
            }
        }
    }
}
