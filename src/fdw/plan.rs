//! Planning a scan of a foreign table.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::ptr::null_mut;

use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, pg_sys};
use serde::{Deserialize, Serialize};
use vector_embed_sources::{Accepted, Describe, Estimate, Scan};

use super::columns::{Column, columns};
use super::filter::{Condition, Stored, condition, filter};
use super::host::finish;
use super::source::of_table;
use crate::error::{Error, OrRaise};
use crate::pg::nodes::{items, list};
use crate::pg::text::{from_server, to_server};

/// What opening a store costs, in the planner's unit.
const OPEN_COST: f64 = 100.0;

/// What a plan carries for the executor.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Carried {
    /// Numbers of the columns that are read.
    pub(super) columns: Vec<i16>,
    /// Conditions that the store applies, those with an operand in the order of the plan's expressions.
    pub(super) filters: Vec<Stored>,
    pub(super) limit: Option<u64>,
    /// What the store will be asked, for EXPLAIN, which does not open it.
    pub(super) query: String,
}

impl Carried {
    /// As a plan keeps it: one string, so that it can be copied.
    fn store(&self) -> Result<*mut pg_sys::List, Error> {
        let text = serde_json::to_string(self).map_err(|_| Error::Internal("a plan cannot be stored"))?;
        // SAFETY: the string is copied to the planner's memory.
        unsafe { Ok(list([pg_sys::makeString(pg_sys::pstrdup(to_server(&in_ascii(&text)).as_ptr()))])) }
    }

    /// What [`Self::store`] made.
    ///
    /// # Safety
    ///
    /// `stored` must come from a plan of ours.
    pub(super) unsafe fn load(stored: *mut pg_sys::List) -> Result<Self, Error> {
        // SAFETY: the list has one string.
        let text = unsafe {
            let node: *mut pg_sys::Node = pg_sys::list_nth(stored, 0).cast();
            #[cfg(feature = "pg14")]
            let text = (*node.cast::<pg_sys::Value>()).val.str_;
            #[cfg(not(feature = "pg14"))]
            let text = (*node.cast::<pg_sys::String>()).sval;
            from_server(CStr::from_ptr(text))
        };
        serde_json::from_str(&text).map_err(|_| Error::Internal("a plan cannot be read"))
    }
}

/// JSON with escapes for characters beyond ASCII: names in a store may have such as the server's encoding has not.
fn in_ascii(json: &str) -> String {
    let mut units = [0; 2];
    let escape = |character: char| match character {
        character if character.is_ascii() => character.to_string(),
        character => character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    json.chars().map(escape).collect()
}

/// What is found out about a foreign table while its query is planned.
struct Known {
    columns: Vec<Column>,
    /// What is to be read, without filters and limit.
    scan: Scan,
    describe: Describe,
    /// Clauses that the store applies.
    pushed: Vec<Pushed>,
    estimate: Estimate,
    /// Whether the store holds back all rows that the clauses do.
    exact: bool,
}

struct Pushed {
    condition: Condition,
    clause: *mut pg_sys::RestrictInfo,
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn rel_size(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    table: pg_sys::Oid,
) {
    // SAFETY: called by the planner; what is found lives as long as its memory.
    unsafe {
        let known = finish(find_out(relation, table));
        (*relation).tuples = known.estimate.rows.max(0.0);
        pg_sys::set_baserel_size_estimates(root, relation);
        (*relation).fdw_private =
            PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(known).cast();
    }
}

unsafe fn find_out(relation: *mut pg_sys::RelOptInfo, table: pg_sys::Oid) -> Result<Known, Error> {
    // SAFETY: the planner's own structures.
    unsafe {
        let clauses = items::<pg_sys::RestrictInfo>((*relation).baserestrictinfo);
        let columns = read_columns(relation, table, &clauses)?;
        let (opened, name) = of_table(table, (*relation).userid)?;
        let scan = Scan {
            table: name,
            columns: columns.iter().map(|column| (column.name.clone(), column.of)).collect(),
            filters: Vec::new(),
            operands: Vec::new(),
            limit: None,
            on_error: opened.on_error,
        };
        let mut candidates = Vec::new();
        for clause in &clauses {
            if let Some(condition) = condition((**clause).clause, (*relation).relid)
                && let Some(filter) = filter(condition.number, condition.operation, &columns)
            {
                candidates.push((filter, Pushed { condition, clause: *clause }));
            }
        }
        let (filters, candidates): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
        let plan = opened.source.plan(&scan, &filters).map_err(Error::Source)?;
        let exact = candidates.len() == clauses.len()
            && plan.accepted.iter().all(|accepted| *accepted == Accepted::Fully);
        let accepted = candidates.into_iter().zip(plan.accepted);
        let pushed = accepted.filter(|(_, accepted)| *accepted != Accepted::No).map(|(pushed, _)| pushed);
        let (estimate, describe) = (plan.estimate, plan.describe);
        Ok(Known { columns, scan, describe, pushed: pushed.collect(), estimate, exact })
    }
}

/// Columns that the query needs, those of conditions included: these are checked again when rows have been read.
unsafe fn read_columns(
    relation: *mut pg_sys::RelOptInfo,
    table: pg_sys::Oid,
    clauses: &[*mut pg_sys::RestrictInfo],
) -> Result<Vec<Column>, Error> {
    // SAFETY: the planner's own structures; it holds a lock on the table.
    unsafe {
        let mut used = null_mut();
        let targets = (*(*relation).reltarget).exprs;
        pg_sys::pull_varattnos(targets.cast(), (*relation).relid, &mut used);
        for clause in clauses {
            pg_sys::pull_varattnos((**clause).clause.cast(), (*relation).relid, &mut used);
        }
        let opened = pg_sys::RelationIdGetRelation(table);
        let found = used_columns(table, (*opened).rd_att, used);
        pg_sys::RelationClose(opened);
        found
    }
}

unsafe fn used_columns(
    table: pg_sys::Oid,
    descriptor: pg_sys::TupleDesc,
    used: *mut pg_sys::Bitmapset,
) -> Result<Vec<Column>, Error> {
    // SAFETY: members are numbers of attributes, moved up so that those of system columns are not negative.
    unsafe {
        let mut numbers = BTreeSet::new();
        let mut member = pg_sys::bms_next_member(used, -1);
        while member >= 0 {
            numbers.insert((member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16);
            member = pg_sys::bms_next_member(used, member);
        }
        let is_whole_row = numbers.contains(&0);
        let all = 1..=(*descriptor).natts as i16;
        let wanted = all.filter(|number| {
            let dropped = (*super::columns::attribute(descriptor, *number)).attisdropped;
            !dropped && (is_whole_row || numbers.contains(number))
        });
        columns(table, descriptor, wanted)
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn paths(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    _table: pg_sys::Oid,
) {
    // SAFETY: called after `rel_size`, by the planner.
    unsafe {
        let known = &*(*relation).fdw_private.cast::<Known>();
        let pushed = list(known.pushed.iter().map(|pushed| pushed.clause));
        let selectivity = pg_sys::clauselist_selectivity(
            root,
            pushed,
            (*relation).relid as i32,
            pg_sys::JoinType::JOIN_INNER,
            null_mut(),
        );
        let fetched = (*relation).tuples * selectivity;
        let each = pg_sys::cpu_tuple_cost + (*relation).baserestrictcost.per_tuple;
        let startup = OPEN_COST + (*relation).baserestrictcost.startup;
        let total = startup + known.estimate.pages * pg_sys::seq_page_cost + fetched * each;
        add_path(root, relation, startup, total);
    }
}

unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    startup: f64,
    total: f64,
) {
    // SAFETY: the planner's own structures.
    unsafe {
        let outer = (*relation).lateral_relids;
        let path = pg_sys::create_foreignscan_path(
            root,
            relation,
            null_mut(),
            (*relation).rows,
            #[cfg(feature = "pg18")]
            0,
            startup,
            total,
            null_mut(),
            outer,
            null_mut(),
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            null_mut(),
            null_mut(),
        );
        pg_sys::add_path(relation, path.cast());
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn plan(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    _table: pg_sys::Oid,
    _path: *mut pg_sys::ForeignPath,
    targets: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    below: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: called after `paths`, by the planner.
    unsafe {
        let known = &*(*relation).fdw_private.cast::<Known>();
        let filters: Vec<Stored> = known.pushed.iter().map(|pushed| pushed.condition.stored()).collect();
        let scan = Scan {
            filters: filters.iter().filter_map(|stored| stored.filter(&known.columns)).collect(),
            limit: if known.exact { limit(root, relation) } else { None },
            ..known.scan.clone()
        };
        let carried = Carried {
            columns: known.columns.iter().map(|column| column.number).collect(),
            filters,
            limit: scan.limit,
            query: finish((known.describe)(&scan).map_err(Error::Source)),
        };
        let operands = known.pushed.iter().map(|pushed| pushed.condition.operand);
        let operands = list(operands.filter(|operand| !operand.is_null()));
        // All clauses are checked here, too: what the store holds back is for speed alone.
        let clauses = pg_sys::extract_actual_clauses(clauses, false);
        pg_sys::make_foreignscan(
            targets,
            clauses,
            (*relation).relid,
            operands,
            carried.store().or_raise(),
            null_mut(),
            null_mut(),
            below,
        )
    }
}

/// How many rows are enough, where the query is nothing but this scan with a LIMIT.
unsafe fn limit(root: *mut pg_sys::PlannerInfo, relation: *mut pg_sys::RelOptInfo) -> Option<u64> {
    // SAFETY: the planner's own structures.
    unsafe {
        let query = (*root).parse;
        let is_alone = (*relation).reloptkind == pg_sys::RelOptKind::RELOPT_BASEREL
            && pg_sys::bms_membership((*root).all_baserels) == pg_sys::BMS_Membership::BMS_SINGLETON;
        let is_plain = (*query).sortClause.is_null() && (*query).rowMarks.is_null();
        let limit = (*root).limit_tuples;
        (is_alone && is_plain && (1.0..1e15).contains(&limit)).then_some(limit as u64)
    }
}
