//! Running a scan of a foreign table.

use std::ffi::c_int;

use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, pg_sys};
use vector_embed_sources::{BadValue, Error as SourceError, Operand, Problem, Rows, Scan, Value};

use super::columns::columns;
use super::filter::{Stored, operand};
use super::host::finish;
use super::plan::Carried;
use super::source::{Opened, of_table};
use super::values::Converter;
use crate::error::Error;
use crate::pg::nodes::items;
use crate::pg::text::to_server;
use crate::pg::warning;

/// A scan under way.
struct Own {
    opened: Opened,
    scan: Scan,
    /// What the store is asked, in words.
    query: String,
    converters: Vec<Converter>,
    stored: Vec<Stored>,
    /// Operands of the conditions that have one, with their types.
    operands: Vec<(*mut pg_sys::ExprState, pg_sys::Oid)>,
    rows: Option<Box<dyn Rows>>,
    /// Whether the rows are to be read anew.
    anew: bool,
}

unsafe fn own<'a>(node: *mut pg_sys::ForeignScanState) -> &'a mut Own {
    // SAFETY: made by `begin`, and dropped with the query's memory.
    unsafe { &mut *(*node).fdw_state.cast::<Own>() }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn begin(node: *mut pg_sys::ForeignScanState, _flags: c_int) {
    // SAFETY: called by the executor, in the query's memory.
    unsafe {
        let own = finish(prepare(node));
        let mut memory = PgMemoryContexts::For((*(*node).ss.ps.state).es_query_cxt);
        (*node).fdw_state = memory.leak_and_drop_on_delete(own).cast();
    }
}

unsafe fn prepare(node: *mut pg_sys::ForeignScanState) -> Result<Own, Error> {
    // SAFETY: the executor's own structures, and a plan of ours.
    unsafe {
        let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        let relation = (*node).ss.ss_currentRelation;
        let carried = Carried::load((*plan).fdw_private)?;
        let columns = columns((*relation).rd_id, (*relation).rd_att, carried.columns.iter().copied())?;
        let (opened, table) = of_table((*relation).rd_id, checked_as(node))?;
        let scan = Scan {
            table,
            columns: columns.iter().map(|column| (column.name.clone(), column.of)).collect(),
            filters: carried.filters.iter().filter_map(|stored| stored.filter(&columns)).collect(),
            operands: Vec::new(),
            limit: carried.limit,
            on_error: opened.on_error,
        };
        let expressions = items::<pg_sys::Node>((*plan).fdw_exprs);
        let states =
            items::<pg_sys::ExprState>(pg_sys::ExecInitExprList((*plan).fdw_exprs, &mut (*node).ss.ps));
        let types = expressions.into_iter().map(|expression| pg_sys::exprType(expression));
        Ok(Own {
            opened,
            scan,
            query: carried.query,
            converters: columns.into_iter().map(|column| Converter::new(column)).collect(),
            stored: carried.filters,
            operands: states.into_iter().zip(types).collect(),
            rows: None,
            anew: true,
        })
    }
}

/// Whose rights count; none for the current user.
unsafe fn checked_as(node: *mut pg_sys::ForeignScanState) -> pg_sys::Oid {
    // SAFETY: the executor's own structures.
    unsafe {
        let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        {
            let tables = (*(*node).ss.ps.state).es_range_table;
            let place = (*plan).scan.scanrelid as i32 - 1;
            (*pg_sys::list_nth(tables, place).cast::<pg_sys::RangeTblEntry>()).checkAsUser
        }
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        {
            (*plan).checkAsUser
        }
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn iterate(
    node: *mut pg_sys::ForeignScanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: called between `begin` and `end`, in memory that is emptied after each row. The slot is one of the
    // table's rows.
    unsafe {
        let own = own(node);
        let slot = (*node).ss.ss_ScanTupleSlot;
        pg_sys::ExecClearTuple(slot);
        if own.anew {
            let operands = finish(own.evaluate((*node).ss.ps.ps_ExprContext));
            finish(own.start(operands).map_err(|error| as_told(error, node)));
        }
        if finish(own.fill(slot).map_err(|error| as_told(error, node))) {
            pg_sys::ExecStoreVirtualTuple(slot);
        }
        slot
    }
}

impl Own {
    /// What the conditions compare with now.
    unsafe fn evaluate(&self, context: *mut pg_sys::ExprContext) -> Result<Vec<Operand>, Error> {
        let mut states = self.operands.iter();
        let mut evaluate = || {
            let Some((state, of)) = states.next() else { return Ok(Operand::None) };
            let mut is_null = false;
            // SAFETY: an expression of the plan, evaluated in memory that is emptied after the row.
            unsafe {
                let datum = pg_sys::ExecEvalExpr(*state, context, &mut is_null);
                operand(datum, is_null, *of)
            }
        };
        let stored = self.stored.iter();
        stored.map(|stored| if stored.compares() { evaluate() } else { Ok(Operand::None) }).collect()
    }

    /// Begins to read, or begins anew.
    fn start(&mut self, operands: Vec<Operand>) -> Result<(), Error> {
        match &mut self.rows {
            Some(rows) => rows.rescan(&operands).map_err(Error::Source)?,
            None => {
                self.scan.operands = operands;
                self.rows = Some(self.opened.source.open(&self.scan).map_err(Error::Source)?);
            }
        }
        self.anew = false;
        Ok(())
    }

    /// Puts the next row into the slot; false at the end.
    unsafe fn fill(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Result<bool, Error> {
        let Some(rows) = &mut self.rows else { return Ok(false) };
        if !rows.next().map_err(Error::Source)? {
            return Ok(false);
        }
        // SAFETY: the slot has a value and a flag for each of the table's columns.
        unsafe {
            let count = (*(*slot).tts_tupleDescriptor).natts as usize;
            std::slice::from_raw_parts_mut((*slot).tts_isnull, count).fill(true);
            for (at, converter) in self.converters.iter_mut().enumerate() {
                let before = rows.losses().values;
                let datum = match converter.datum(rows.value(at).map_err(Error::Source)?) {
                    Ok(datum) => datum,
                    Err(problem) => {
                        let bad = bad_value(&mut **rows, &self.scan, at, problem);
                        rows.losses_mut().null(bad, self.opened.on_error).map_err(Error::Source)?;
                        None
                    }
                };
                let column = converter.column();
                if datum.is_none() && column.not_null && rows.losses().values > before {
                    let column = column.name.clone();
                    let (table, row) = (self.scan.table.clone(), rows.row_name());
                    return Err(Error::ForeignNull { column, table, row });
                }
                let place = column.number as usize - 1;
                *(*slot).tts_isnull.add(place) = datum.is_none();
                *(*slot).tts_values.add(place) = datum.unwrap_or(pg_sys::Datum::null());
            }
        }
        Ok(true)
    }
}

/// Whether the current user may read the foreign table. Who reads a view of it must not learn by errors what the
/// view keeps back.
unsafe fn may_read(node: *mut pg_sys::ForeignScanState) -> bool {
    // SAFETY: the executor's own structures.
    unsafe {
        let (table, mode) = ((*(*node).ss.ss_currentRelation).rd_id, pg_sys::ACL_SELECT as pg_sys::AclMode);
        pg_sys::pg_class_aclcheck(table, pg_sys::GetUserId(), mode) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// An error as the current user may be told of it.
unsafe fn as_told(error: Error, node: *mut pg_sys::ForeignScanState) -> Error {
    // SAFETY: the caller's node.
    if unsafe { may_read(node) } {
        return error;
    }
    const HIDDEN: &str = "Where, only roles are told that may read the foreign table.";
    match error {
        Error::Source(SourceError::Value(bad)) => {
            Error::ForeignHidden { column: bad.column, table: bad.table, wanted: bad.wanted }
        }
        Error::Source(
            SourceError::NoVector { collection, .. } | SourceError::NoLength { collection, .. },
        ) => {
            let (column, wanted) = ("embedding".to_owned(), "vector".to_owned());
            Error::ForeignHidden { column, table: collection, wanted }
        }
        // These may name rows by their rowid, or by an id.
        Error::Source(SourceError::Damaged { what, path, .. }) => {
            Error::Source(SourceError::Damaged { what, path, detail: HIDDEN.to_owned() })
        }
        Error::Source(SourceError::Answer { address, .. }) => {
            Error::Source(SourceError::Answer { address, detail: HIDDEN.to_owned() })
        }
        Error::ForeignNull { column, table, .. } => {
            Error::ForeignNull { column, table, row: "one of the rows".to_owned() }
        }
        error => error,
    }
}

/// Why a value that was read is not taken.
fn bad_value(rows: &mut dyn Rows, scan: &Scan, at: usize, problem: Problem) -> SourceError {
    const MAX_CHARS: usize = 60;
    let value = match rows.value(at) {
        Ok(Value::Text(text) | Value::Json(text) | Value::Numeric(text)) => {
            let mut told =
                format!("'{}'", text.chars().take(MAX_CHARS).collect::<String>().replace('\'', "''"));
            if text.chars().nth(MAX_CHARS).is_some() {
                told.push_str("...");
            }
            told
        }
        Ok(Value::Bytea(bytes)) => format!("a blob of {} bytes", bytes.len()),
        _ => "such".to_owned(),
    };
    let (column, of) = scan.columns[at].clone();
    let (table, row) = (scan.table.clone(), rows.row_name());
    SourceError::Value(Box::new(BadValue { table, row, column, wanted: of.to_string(), value, problem }))
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn rescan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: called between `begin` and `end`.
    unsafe { own(node).anew = true };
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn end(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: called once, after `begin`, which may have failed. The store is closed at once, the rest goes with the
    // query's memory.
    unsafe {
        if (*node).fdw_state.is_null() {
            return;
        }
        let own = own(node);
        if let Some(mut rows) = own.rows.take() {
            let mut losses = std::mem::take(rows.losses_mut());
            drop(rows);
            losses.first.take_if(|_| !may_read(node));
            if !losses.is_empty() {
                warning::losses(&own.scan.table, losses);
            }
        }
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn explain(
    node: *mut pg_sys::ForeignScanState,
    explain: *mut pg_sys::ExplainState,
) {
    // SAFETY: called between `begin` and `end`, with the state of EXPLAIN.
    unsafe {
        let own = own(node);
        let label = own.opened.store.query_label();
        pg_sys::ExplainPropertyText(label.as_ptr(), to_server(&own.query).as_ptr(), explain);
    }
}
