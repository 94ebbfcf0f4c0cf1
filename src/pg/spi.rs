//! SQL that this extension runs itself. Whatever is in it is named in full: the caller's `search_path` is in force.

use std::ffi::CStr;
use std::ptr::null_mut;

use pgrx::{FromDatum, pg_sys};

use super::message::Watch;
use super::text::{Text, from_server, to_server};
use super::unguarded;
use crate::error::Error;

/// Another user for a moment, without row security.
#[derive(Debug, Clone, Copy)]
struct Before {
    user: pg_sys::Oid,
    context: i32,
}

/// Makes a table's owner the current user. An error before [`restore`] leaves that to the end of the transaction.
fn become_owner(owner: pg_sys::Oid) -> Before {
    let mut before = Before { user: pg_sys::InvalidOid, context: 0 };
    let more = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;
    // SAFETY: variables of the process.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
        pg_sys::SetUserIdAndSecContext(owner, before.context | more as i32);
    }
    before
}

fn restore(before: Before) {
    // SAFETY: as it was.
    unsafe { pg_sys::SetUserIdAndSecContext(before.user, before.context) };
}

/// A connection to the server's own SQL.
pub(super) struct Connection {
    _watch: Watch,
}

impl Connection {
    pub(super) fn open() -> Result<Self, Error> {
        let watch = Watch::new();
        // SAFETY: ended by the end of this value, or else of the transaction.
        check(unsafe { pg_sys::SPI_connect() })?;
        Ok(Self { _watch: watch })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // After an error the end of the transaction closes it.
        if !std::thread::panicking() {
            // SAFETY: there is a connection.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

/// Executes a statement as the current user.
pub(crate) fn execute(sql: &str) -> Result<(), Error> {
    let _connection = Connection::open()?;
    run(sql)
}

/// Executes a query that gives one row of `count` numbers.
pub(crate) fn numbers(sql: &str, count: usize) -> Result<Vec<i64>, Error> {
    let _connection = Connection::open()?;
    run(sql)?;
    // SAFETY: the query gave a table, whose descriptor and rows live until the connection ends.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() || pg_sys::SPI_processed != 1 {
            return Err(Error::Internal("a count gave no row"));
        }
        let row = *(*table).vals;
        let number = |place: usize| {
            let mut is_null = false;
            pg_sys::SPI_getbinval(row, (*table).tupdesc, place as i32, &mut is_null).value() as i64
        };
        Ok((1..=count).map(number).collect())
    }
}

/// The first column of a query's rows, without NULLs.
pub(crate) fn strings(sql: &str) -> Result<Vec<String>, Error> {
    Ok(texts(sql)?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// The rows of a query, each value as text.
pub(crate) fn texts(sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
    let _connection = Connection::open()?;
    run(sql)?;
    // SAFETY: as above; `SPI_getvalue` gives NULL or a string that ends with NUL.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Err(Error::Internal("a query gave no rows"));
        }
        let columns = (*(*table).tupdesc).natts;
        let value = |row: pg_sys::HeapTuple, column: i32| {
            let text = pg_sys::SPI_getvalue(row, (*table).tupdesc, column);
            (!text.is_null()).then(|| from_server(CStr::from_ptr(text)))
        };
        let rows = (0..pg_sys::SPI_processed as usize).map(|place| *(*table).vals.add(place));
        Ok(rows.map(|row| (1..=columns).map(|column| value(row, column)).collect()).collect())
    }
}

/// A row's text and the vector that is stored with it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) text: String,
    pub(crate) vector: Vec<f32>,
}

/// Executes a query that gives texts and `float4[]`, neither of them NULL.
pub(crate) fn stored(sql: &str) -> Result<Vec<Stored>, Error> {
    let _connection = Connection::open()?;
    run(sql)?;
    // SAFETY: the query gave a table, whose descriptor and rows live until the connection ends.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Err(Error::Internal("a query gave no table"));
        }
        let value = |row, place| {
            let mut is_null = false;
            pg_sys::SPI_getbinval(row, (*table).tupdesc, place, &mut is_null)
        };
        let rows = std::slice::from_raw_parts((*table).vals, pg_sys::SPI_processed as usize);
        let row = |row: &pg_sys::HeapTuple| {
            let text = Text::from_datum(value(*row, 1))?.as_str().to_owned();
            let vector = Vec::<Option<f32>>::from_datum(value(*row, 2), false).unwrap_or_default();
            // pgvector lets no NaN in; NULL can be in arrays only.
            Ok(Stored { text, vector: vector.into_iter().map(Option::unwrap_or_default).collect() })
        };
        rows.iter().map(row).collect()
    }
}

/// An UPDATE of rows by the values in a tuplestore. All that it points to lives in a memory context, so that the
/// value itself has nothing to drop.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpdateFrom {
    pub(super) bound: Bound,
    /// Counts the rows that the update should have changed, and has not.
    pub(super) left: *const std::ffi::c_char,
}

/// A statement over rows in a tuplestore. What it points to lives in a memory context.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// As whom it is planned and its privileges are checked.
    pub(super) owner: pg_sys::Oid,
    /// The name by which it knows the rows.
    pub(super) name: &'static CStr,
    pub(super) descriptor: pg_sys::TupleDesc,
    pub(super) rows: *mut pg_sys::Tuplestorestate,
    pub(super) count: u64,
    pub(super) sql: *const std::ffi::c_char,
    /// What it is, unless rules make something else of it.
    pub(super) command: pg_sys::CmdType::Type,
}

/// What became of an [`UpdateFrom`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Updated {
    /// All rows are as they should be.
    All,
    /// A trigger has kept so many rows from being updated.
    Not(u64),
    /// Rules have made something else of the statement.
    Ruled,
}

impl UpdateFrom {
    /// Runs it.
    ///
    /// # Safety
    ///
    /// No frame between the server's call and this one may have values to drop: errors of the statement jump over
    /// them, since otherwise they would lose most of what they say.
    pub(super) unsafe fn run(self) -> Updated {
        // SAFETY: the caller's promise.
        let updated = unsafe { run_bound(self.bound, pg_sys::None_Receiver, None) };
        let Some(updated) = updated else { return Updated::Ruled };
        if updated >= self.bound.count {
            return Updated::All;
        }
        // SAFETY: as above.
        match unsafe { self.count_left() } {
            0 => Updated::All,
            left => Updated::Not(left),
        }
    }

    unsafe fn count_left(self) -> u64 {
        // SAFETY: the query gives one number.
        unsafe {
            pg_sys::SPI_connect();
            let mut relation = self.bound.relation();
            pg_sys::SPI_register_relation(&mut relation);
            let before = become_owner(self.bound.owner);
            let code = pg_sys::SPI_execute(self.left, false, 0);
            restore(before);
            // At least one is not as it should be, or the query would not be asked.
            let mut left = 1;
            if code >= 0 && pg_sys::SPI_processed == 1 {
                let table = pg_sys::SPI_tuptable;
                let mut is_null = false;
                left =
                    pg_sys::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &mut is_null).value() as u64;
            }
            pg_sys::SPI_finish();
            left
        }
    }
}

impl Bound {
    fn relation(&self) -> pg_sys::EphemeralNamedRelationData {
        pg_sys::EphemeralNamedRelationData {
            md: pg_sys::EphemeralNamedRelationMetadataData {
                name: self.name.as_ptr().cast_mut(),
                reliddesc: pg_sys::InvalidOid,
                tupdesc: self.descriptor,
                enrtype: pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE,
                enrtuples: self.count as f64,
            },
            reldata: self.rows.cast(),
        }
    }
}

/// Runs a statement, its rows given to `receiver`; returns how many it has touched, or `None` if rules have made
/// something else of it. Where `result` is given, it gets a copy of the rows' descriptor.
///
/// The table's owner is who the statement is planned for and whose privileges are checked. What then runs, above
/// all the table's triggers, runs as the current user, as for any statement of his.
///
/// # Safety
///
/// All that `bound` points to lives. Errors of the statement jump over the frames up to the next guard, which must have
/// nothing to drop.
pub(super) unsafe fn run_bound(
    bound: Bound,
    receiver: *mut pg_sys::DestReceiver,
    result: Option<&mut pg_sys::TupleDesc>,
) -> Option<u64> {
    // SAFETY: everything is released in reverse order, or else by the end of the transaction. The statement is
    // executed as SPI would.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let mut relation = bound.relation();
        pg_sys::SPI_connect();
        pg_sys::SPI_register_relation(&mut relation);
        let before = become_owner(bound.owner);
        let plan = pg_sys::SPI_prepare(bound.sql, 0, null_mut());
        let cached = if plan.is_null() { null_mut() } else { pg_sys::SPI_plan_get_cached_plan(plan) };
        restore(before);
        let statement = match cached.as_ref() {
            Some(cached) if pg_sys::list_length(cached.stmt_list) == 1 => {
                pg_sys::list_nth(cached.stmt_list, 0).cast::<pg_sys::PlannedStmt>()
            }
            _ => null_mut(),
        };
        if statement.is_null() || (*statement).commandType != bound.command {
            pg_sys::SPI_finish();
            return None;
        }
        let environment = pg_sys::create_queryEnv();
        pg_sys::register_ENR(environment, &mut relation);
        let touched = execute_plan(bound, statement, environment, receiver, result, context);
        pg_sys::ReleaseCachedPlan(cached, null_mut());
        pg_sys::SPI_finish();
        Some(touched)
    }
}

/// Executes a plan; returns how many rows it has touched.
///
/// # Safety
///
/// As for [`run_bound`].
unsafe fn execute_plan(
    bound: Bound,
    statement: *mut pg_sys::PlannedStmt,
    names: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    result: Option<&mut pg_sys::TupleDesc>,
    context: pg_sys::MemoryContext,
) -> u64 {
    // SAFETY: as `_SPI_pquery` does it, but for who is the current user.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let query = pg_sys::CreateQueryDesc(
            statement,
            bound.sql,
            pg_sys::GetActiveSnapshot(),
            null_mut(),
            receiver,
            null_mut(),
            names,
            0,
        );
        let before = become_owner(bound.owner);
        pg_sys::ExecutorStart(query, 0);
        restore(before);
        if let Some(result) = result {
            let within = pg_sys::MemoryContextSwitchTo(context);
            *result = pg_sys::CreateTupleDescCopy((*query).tupDesc);
            pg_sys::MemoryContextSwitchTo(within);
        }
        unguarded::executor_run(query);
        let touched = (*(*query).estate).es_processed;
        unguarded::executor_finish(query);
        pg_sys::ExecutorEnd(query);
        pg_sys::FreeQueryDesc(query);
        pg_sys::PopActiveSnapshot();
        touched
    }
}

fn run(sql: &str) -> Result<(), Error> {
    let sql = to_server(sql);
    // SAFETY: there is a connection; raises errors of the statement itself.
    check(unsafe { pg_sys::SPI_execute(sql.as_ptr(), false, 0) })
}

pub(super) fn check(code: i32) -> Result<(), Error> {
    if code >= 0 { Ok(()) } else { Err(Error::Internal("the server refused a query of the extension")) }
}
