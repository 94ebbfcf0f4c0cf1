//! A background worker's own transactions, outside of which it is for most of the time.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgMemoryContexts, PgTryBuilder, pg_sys};

use crate::error::{Error, Failure};

mod c {
    // Of utils/timeout.h, which pgrx leaves out.
    pub(super) const STATEMENT_TIMEOUT: i32 = 3;
    unsafe extern "C-unwind" {
        pub(super) fn enable_timeout_after(id: i32, millis: i32);
        pub(super) fn disable_timeout(id: i32, keep_indicator: bool);
    }
}

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Reads, all with one snapshot.
    Read,
    Write,
}

/// Calls `work` in a transaction, which is committed if it succeeds. All else is undone.
pub(crate) fn transaction<T>(mode: Mode, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    // SAFETY: the process is in no transaction; the settings are those of the transaction, which begins with them.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, c"".as_ptr());
        if mode == Mode::Read {
            pg_sys::XactIsoLevel = pg_sys::XACT_REPEATABLE_READ as i32;
            pg_sys::XactReadOnly = true;
        }
    }
    let outcome = guarded(|| {
        // SAFETY: there is a transaction, which ends here or in `guarded`.
        unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let outcome = work()?;
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            Ok(outcome)
        }
    });
    // SAFETY: there is no transaction any more. What the tables have been through is told, for autovacuum above all.
    unsafe {
        pg_sys::pgstat_report_stat(false);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
    outcome
}

/// Calls `work`. An error of PostgreSQL's is no end of the process, but of the transaction if there is one.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    let work = AssertUnwindSafe(work);
    let outcome = PgTryBuilder::new(move || {
        let whole = work;
        (whole.0)().map_err(|error| error.failure())
    })
    .catch_others(|caught| match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            Err(Failure::new(report.sql_error_code(), report.message().to_owned()))
        }
        // A fault of ours: it ends the work, too, and not the worker, which others need.
        CaughtError::RustPanic { ereport, .. } => {
            Err(Failure::new(ereport.sql_error_code(), ereport.message().to_owned()))
        }
    })
    .execute();
    if outcome.is_err() {
        // SAFETY: ends the transaction, if there is one, whatever state it is in.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    outcome
}

/// Calls `work`, which is cancelled if it takes longer. The time is that of statements; what runs cannot change it, as it
/// could a setting, and only the end of a worker's own work takes it back.
pub(crate) fn limited<T>(time: Duration, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: every process with a database has this timeout, and the signal handler that cancels.
    unsafe { c::enable_timeout_after(c::STATEMENT_TIMEOUT, millis) };
    let outcome = work();
    // SAFETY: as above. A cancel that came too late is not to hit what is done next.
    unsafe {
        c::disable_timeout(c::STATEMENT_TIMEOUT, false);
        (&raw mut pg_sys::QueryCancelPending).write_volatile(0);
    }
    outcome
}

/// Calls `work` with memory of its own for what PostgreSQL allocates outside of transactions.
pub(crate) fn with_memory<T>(work: impl FnOnce() -> T) -> T {
    let mut memory = PgMemoryContexts::new("vector_embed queue worker");
    // SAFETY: switching to a context that lives, and back; nothing that was allocated there is returned.
    unsafe { memory.switch_to(|_| work()) }
}

/// Sets what the session has from now on, as superuser.
pub(crate) fn set(name: &std::ffi::CStr, value: &std::ffi::CStr) {
    let (context, source) = (pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_SESSION);
    // SAFETY: strings that end with NUL; a worker's session is the superuser's.
    unsafe { pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), context, source) };
}

/// Whether somebody drops this session's database, or copies it, and waits for all sessions in it to end.
pub(crate) fn is_in_the_way() -> bool {
    // SAFETY: tries the lock that connecting takes, and gives it back. As a session's, it needs no transaction.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::InvalidOid.to_u32(),
            locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
            locktag_field3: pg_sys::MyDatabaseId.to_u32(),
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        match pg_sys::LockAcquire(&tag, mode, true, true) {
            pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL => true,
            _ => {
                pg_sys::LockRelease(&tag, mode, true);
                false
            }
        }
    }
}

/// The databases that can be connected to. Needs a transaction.
pub(crate) fn databases() -> Vec<u32> {
    let mut databases = Vec::new();
    // SAFETY: scans a catalog that all databases share, as autovacuum does; rows live until the next is asked for.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_database>(tuple);
            // A DROP DATABASE that was interrupted leaves -2: nobody can connect any more.
            if (*form).datallowconn && (*form).datconnlimit != -2 {
                databases.push((*form).oid.to_u32());
            }
        }
        // As `table_endscan` in tableam.h.
        if let Some(end) = (*(*relation).rd_tableam).scan_end {
            end(scan);
        }
        pg_sys::table_close(relation, lock);
    }
    databases
}
