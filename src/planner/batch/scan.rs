//! The executor's node that reads rows ahead and computes their calls together.
//!
//! While the rows of one batch are given on, the texts of the next are at the engine. A reader that may stop at any
//! row gets batches of 1, 2, 4, … rows, until it has shown that it goes on.
//!
//! What Rust owns (open connections above all) hangs on the query's memory context and is dropped with it, because
//! after an error nobody calls `EndCustomScan`.

use std::ffi::{c_int, c_void};
use std::ptr::null;

use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, pg_sys};

use super::rows::{BATCH_TEXTS, Batch, Took, named_model};
use crate::client;
use crate::error::{Error, OrRaise, Place};
use crate::pg::text::Text;
use crate::pg::unguarded;
use crate::planner::function::{Signature, check_execute};
use crate::planner::nodes::{items, list, node};

const NAME: &std::ffi::CStr = c"Embed Batch";

/// Rows that are given on before it is looked after the batch at the engine.
const KEEP_GOING_ROWS: usize = 64;

/// Tables of functions that PostgreSQL reads, from one thread.
#[repr(transparent)]
struct Table<T>(T);

// SAFETY: never written, and PostgreSQL's processes have one thread.
unsafe impl<T> Sync for Table<T> {}

static METHODS: Table<pg_sys::CustomScanMethods> =
    Table(pg_sys::CustomScanMethods { CustomName: NAME.as_ptr(), CreateCustomScanState: Some(create) });

static EXECUTION: Table<pg_sys::CustomExecMethods> = Table(pg_sys::CustomExecMethods {
    CustomName: NAME.as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(next),
    EndCustomScan: Some(end),
    ReScanCustomScan: Some(rescan),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: Some(explain),
});

/// Makes the node known, so that parallel workers can read plans with it.
pub(in crate::planner) fn register() {
    // SAFETY: the table lives as long as the process.
    unsafe { pg_sys::RegisterCustomScanMethods(methods()) };
}

pub(super) fn methods() -> *const pg_sys::CustomScanMethods {
    &raw const METHODS.0
}

/// Whether a plan is a node of this kind.
///
/// # Safety
///
/// `plan` must be NULL or a plan.
pub(super) unsafe fn is_ours(plan: *mut pg_sys::Plan) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        !plan.is_null()
            && (*plan).type_ == pg_sys::NodeTag::T_CustomScan
            && (*plan.cast::<pg_sys::CustomScan>()).methods == methods()
    }
}

/// What PostgreSQL sees of the node's state.
#[repr(C)]
struct State {
    custom: pg_sys::CustomScanState,
    own: *mut Own,
}

/// The rest.
struct Own {
    calls: Vec<Call>,
    /// Columns of the plan below.
    columns: usize,
    /// Holds a row of the plan below.
    slot: *mut pg_sys::TupleTableSlot,
    eager: bool,
    /// Rows of the next batch, while it is not known whether the reader goes on.
    size: usize,
    /// Whether the plan below has no more rows.
    exhausted: bool,
    /// Rows of this scan that have been read.
    read: u64,
    /// The batch that rows are read into.
    filling: Option<Batch>,
    /// The batch whose rows are given on.
    current: Option<Batch>,
    /// The batch whose texts are at the engine.
    following: Option<Batch>,
    /// For batches to come.
    free: Vec<pg_sys::MemoryContext>,
    batches: u64,
    took: Took,
}

struct Call {
    signature: Signature,
    arguments: Vec<*mut pg_sys::ExprState>,
}

impl Call {
    /// Adds what is to be computed for the batch's last row.
    unsafe fn add(&self, batch: &mut Batch, context: *mut pg_sys::ExprContext) -> Result<(), Error> {
        let row = batch.last_row();
        let at_row = |error: Error| error.at(Place::Input(row));
        // SAFETY: the row is in the context. An argument is `text`, as the signature says.
        unsafe {
            let mut values = self.arguments.iter().map(|argument| {
                let mut is_null = false;
                let value = pg_sys::ExecEvalExpr(*argument, context, &mut is_null);
                (!is_null).then_some(value)
            });
            let text = values.next().flatten();
            let named = if self.signature.names_model { values.next().flatten() } else { None };
            let text = match text {
                Some(text) if !self.signature.names_model || named.is_some() => {
                    Text::from_datum(text).map_err(at_row)?
                }
                _ => {
                    batch.add_call(None);
                    return Ok(());
                }
            };
            let model = match named {
                Some(name) => Text::from_datum(name).and_then(|name| named_model(&name)).map_err(at_row)?,
                None => batch.default_model()?,
            };
            batch.add_call(Some((&text, model, self.signature.purpose)));
        }
        Ok(())
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn create(_scan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    // SAFETY: a new node, of the size of ours.
    unsafe {
        let state = node::<State>(pg_sys::NodeTag::T_CustomScanState);
        (*state).custom.methods = &raw const EXECUTION.0;
        state.cast()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(
    custom: *mut pg_sys::CustomScanState,
    estate: *mut pg_sys::EState,
    flags: c_int,
) {
    // SAFETY: called with a node that `create` made, and the plan that `Rewriter::scan` made.
    unsafe {
        let plan_state = &raw mut (*custom).ss.ps;
        let scan = (*plan_state).plan.cast::<pg_sys::CustomScan>();
        let passed = flags & !((pg_sys::EXEC_FLAG_BACKWARD | pg_sys::EXEC_FLAG_MARK) as c_int);
        (*plan_state).lefttree = pg_sys::ExecInitNode((*scan).scan.plan.lefttree, estate, passed);
        let targets = items::<pg_sys::TargetEntry>((*scan).custom_scan_tlist);
        let mut calls = Vec::new();
        for target in &targets {
            let expression = (**target).expr;
            if (*expression).type_ == pg_sys::NodeTag::T_FuncExpr {
                let number = pg_sys::list_nth_int((*scan).custom_private, calls.len() as i32 + 1);
                calls.push(begin_call(expression.cast(), Signature::from_number(number), plan_state));
            }
        }
        let eager = pg_sys::list_nth_int((*scan).custom_private, 0) != 0;
        let descriptor = (*(*plan_state).lefttree).ps_ResultTupleDesc;
        let own = Own {
            columns: targets.len() - calls.len(),
            calls,
            slot: pg_sys::ExecInitExtraTupleSlot(estate, descriptor, &raw const pg_sys::TTSOpsMinimalTuple),
            eager,
            size: 1,
            exhausted: false,
            read: 0,
            filling: None,
            current: None,
            following: None,
            free: Vec::new(),
            batches: 0,
            took: Took::default(),
        };
        (*custom.cast::<State>()).own =
            PgMemoryContexts::For((*estate).es_query_cxt).leak_and_drop_on_delete(own);
    }
}

/// Makes a call ready. The executor would have checked the privilege, had it made ready the function itself.
unsafe fn begin_call(
    call: *mut pg_sys::FuncExpr,
    signature: Signature,
    parent: *mut pg_sys::PlanState,
) -> Call {
    // SAFETY: the arguments are over the columns of the plan below.
    unsafe {
        check_execute((*call).funcid);
        let arguments = items::<pg_sys::Expr>((*call).args);
        let arguments =
            arguments.into_iter().map(|argument| pg_sys::ExecInitExpr(argument, parent)).collect();
        Call { signature, arguments }
    }
}

/// Not guarded, and without anything to drop: errors of the plan below and of the expressions above jump over it, with
/// all that they say.
unsafe extern "C-unwind" fn next(custom: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: called between `begin` and `end`.
    unsafe {
        let own = (*custom.cast::<State>()).own;
        let plan_state = &raw mut (*custom).ss.ps;
        let slot = (*custom).ss.ss_ScanTupleSlot;
        loop {
            match step(own, plan_state, slot) {
                Step::Row => break,
                Step::End => return slot,
                Step::Read => {
                    let row = unguarded::next_row((*plan_state).lefttree);
                    take(own, plan_state, row);
                }
            }
        }
        if (*plan_state).ps_ProjInfo.is_null() {
            return slot;
        }
        (*(*plan_state).ps_ExprContext).ecxt_scantuple = slot;
        unguarded::project((*plan_state).ps_ProjInfo)
    }
}

/// What is to be done next.
#[derive(Clone, Copy)]
#[repr(C)]
enum Step {
    /// A row of the plan below is to be read, and given to [`take`].
    Read,
    /// A row is in the slot.
    Row,
    /// There are no more rows.
    End,
}

#[pg_guard]
unsafe extern "C-unwind" fn step(
    own: *mut Own,
    plan_state: *mut pg_sys::PlanState,
    slot: *mut pg_sys::TupleTableSlot,
) -> Step {
    pgrx::check_for_interrupts!();
    // SAFETY: called between `begin` and `end`.
    unsafe {
        pg_sys::ExecClearTuple(slot);
        (*own).step(plan_state, slot).or_raise()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn take(
    own: *mut Own,
    plan_state: *mut pg_sys::PlanState,
    row: *mut pg_sys::TupleTableSlot,
) {
    // SAFETY: called between `begin` and `end`, with what the plan below gave.
    unsafe { (*own).take(plan_state, row).or_raise() }
}

impl Own {
    /// Goes on to the next row, or as far as without reading.
    unsafe fn step(
        &mut self,
        plan_state: *mut pg_sys::PlanState,
        slot: *mut pg_sys::TupleTableSlot,
    ) -> Result<Step, Error> {
        // SAFETY: rows are those of the current batch, whose memory is let go when all have been given on.
        unsafe {
            loop {
                if self.filling.is_some() {
                    if !self.is_filled() {
                        return Ok(Step::Read);
                    }
                    self.send()?;
                }
                if let Some((row, number)) = self.current.as_mut().and_then(Batch::take_row) {
                    if let Some(following) = self.following.as_mut().filter(|_| number % KEEP_GOING_ROWS == 0)
                    {
                        following.keep_going();
                    }
                    let context = (*plan_state).ps_ExprContext;
                    pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
                    pg_sys::ExecStoreMinimalTuple(row, self.slot, false);
                    self.fill(slot, number);
                    pg_sys::ExecStoreVirtualTuple(slot);
                    return Ok(Step::Row);
                }
                if let Some(done) = self.current.take() {
                    pg_sys::ExecClearTuple(self.slot);
                    self.free.push(done.memory());
                }
                if let Some(mut batch) = self.following.take() {
                    self.wait(&mut batch)?;
                    self.current = Some(batch);
                    // The engine computes the next batch while the reader works on this one.
                    let goes_on = self.eager || self.size >= BATCH_TEXTS;
                    if !self.exhausted && goes_on && client::may_go_ahead() {
                        self.begin_filling(plan_state);
                    }
                } else if self.exhausted {
                    return Ok(Step::End);
                } else {
                    self.begin_filling(plan_state);
                }
            }
        }
    }

    unsafe fn begin_filling(&mut self, plan_state: *mut pg_sys::PlanState) {
        // SAFETY: the memory is empty, and as long-lived as the query.
        unsafe {
            let memory = self.free.pop().unwrap_or_else(|| new_memory((*(*plan_state).state).es_query_cxt));
            pg_sys::MemoryContextReset(memory);
            self.filling = Some(Batch::new(memory, self.read + 1));
        }
    }

    /// Whether the batch that is being filled is to be sent.
    fn is_filled(&self) -> bool {
        let limit = if self.eager { usize::MAX } else { self.size };
        self.exhausted || self.filling.as_ref().is_some_and(|batch| batch.is_full() || batch.rows() >= limit)
    }

    /// Takes a row of the plan below into the batch that is being filled.
    unsafe fn take(
        &mut self,
        plan_state: *mut pg_sys::PlanState,
        row: *mut pg_sys::TupleTableSlot,
    ) -> Result<(), Error> {
        // SAFETY: a slot, or NULL for the end.
        unsafe {
            if row.is_null() || u32::from((*row).tts_flags) & pg_sys::TTS_FLAG_EMPTY != 0 {
                self.exhausted = true;
                return Ok(());
            }
            let Some(mut batch) = self.filling.take() else { return Ok(()) };
            let added = self.add(&mut batch, row, plan_state);
            self.filling = Some(batch);
            added
        }
    }

    /// Sends the texts of the batch that has been filled on their way.
    fn send(&mut self) -> Result<(), Error> {
        let Some(mut batch) = self.filling.take() else { return Ok(()) };
        self.size = (self.size * 2).min(BATCH_TEXTS);
        self.read += batch.rows() as u64;
        if batch.rows() == 0 {
            self.free.push(batch.memory());
            return Ok(());
        }
        batch.start()?;
        self.following = Some(batch);
        Ok(())
    }

    unsafe fn wait(&mut self, batch: &mut Batch) -> Result<(), Error> {
        // SAFETY: the vectors are kept with the rows.
        let took = unsafe {
            let before = pg_sys::MemoryContextSwitchTo(batch.memory());
            let took = batch.wait();
            pg_sys::MemoryContextSwitchTo(before);
            took?
        };
        self.batches += 1;
        self.took.rows += took.rows;
        self.took.texts += took.texts;
        self.took.cached += took.cached;
        self.took.micros += took.micros;
        Ok(())
    }

    unsafe fn add(
        &self,
        batch: &mut Batch,
        row: *mut pg_sys::TupleTableSlot,
        plan_state: *mut pg_sys::PlanState,
    ) -> Result<(), Error> {
        // SAFETY: the row is copied to the batch's memory. An argument is `text`, as the signature says.
        unsafe {
            let context = (*plan_state).ps_ExprContext;
            pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            (*context).ecxt_outertuple = row;
            let before = pg_sys::MemoryContextSwitchTo(batch.memory());
            batch.add_row(pg_sys::ExecCopySlotMinimalTuple(row));
            pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
            for call in &self.calls {
                call.add(batch, context)?;
            }
            pg_sys::MemoryContextSwitchTo(before);
        }
        Ok(())
    }

    /// Puts the row in the node's slot, and its vectors, as a virtual tuple.
    unsafe fn fill(&self, slot: *mut pg_sys::TupleTableSlot, row: usize) {
        // SAFETY: the slot has the columns of the plan below, and one for each call.
        unsafe {
            if self.columns > 0 {
                pg_sys::slot_getsomeattrs_int(self.slot, self.columns as c_int);
                std::ptr::copy_nonoverlapping((*self.slot).tts_values, (*slot).tts_values, self.columns);
                std::ptr::copy_nonoverlapping((*self.slot).tts_isnull, (*slot).tts_isnull, self.columns);
            }
            let Some(batch) = &self.current else { return };
            for call in 0..self.calls.len() {
                let vector = batch.vector(row, self.calls.len(), call);
                *(*slot).tts_values.add(self.columns + call) =
                    vector.map_or(pg_sys::Datum::null(), |vector| vector.datum());
                *(*slot).tts_isnull.add(self.columns + call) = vector.is_none();
            }
        }
    }
}

unsafe fn new_memory(parent: pg_sys::MemoryContext) -> pg_sys::MemoryContext {
    // SAFETY: the name is a constant.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            parent,
            c"vector_embed batch".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn end(custom: *mut pg_sys::CustomScanState) {
    // SAFETY: called once, after `begin`. The connections are given up at once, the rest with the query's memory.
    unsafe {
        let own = &mut *(*custom.cast::<State>()).own;
        own.filling = None;
        own.current = None;
        own.following = None;
        pg_sys::ExecEndNode((*custom).ss.ps.lefttree);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn rescan(custom: *mut pg_sys::CustomScanState) {
    // SAFETY: called between `begin` and `end`.
    unsafe {
        let own = &mut *(*custom.cast::<State>()).own;
        pg_sys::ExecClearTuple(own.slot);
        pg_sys::ExecClearTuple((*custom).ss.ss_ScanTupleSlot);
        if !own.exhausted {
            own.size = 1; // the reader stopped early, and may do so again
        }
        own.exhausted = false;
        own.read = 0; // errors count the rows of a scan
        let unread = [own.filling.take(), own.current.take(), own.following.take()];
        own.free.extend(unread.into_iter().flatten().map(|batch| batch.memory()));
        let below = (*custom).ss.ps.lefttree;
        // Otherwise it is begun anew when it is read.
        if (*below).chgParam.is_null() {
            pg_sys::ExecReScan(below);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn explain(
    custom: *mut pg_sys::CustomScanState,
    ancestors: *mut pg_sys::List,
    explain: *mut pg_sys::ExplainState,
) {
    // SAFETY: called between `begin` and `end`, with the state of EXPLAIN.
    unsafe {
        let own = &*(*custom.cast::<State>()).own;
        let plan = (*custom).ss.ps.plan;
        let context = pg_sys::set_deparse_context_plan((*explain).deparse_cxt, plan, ancestors);
        let prefix = pg_sys::list_length((*explain).rtable) > 1 || (*explain).verbose;
        let targets = items::<pg_sys::TargetEntry>((*plan.cast::<pg_sys::CustomScan>()).custom_scan_tlist);
        let calls = targets.into_iter().skip(own.columns).map(|target| {
            pg_sys::deparse_expression((*target).expr.cast(), context, prefix, false).cast::<c_void>()
        });
        pg_sys::ExplainPropertyList(c"Calls".as_ptr(), list(calls), explain);
        let integer = |label: &std::ffi::CStr, value: u64| {
            pg_sys::ExplainPropertyInteger(label.as_ptr(), null(), value as i64, explain);
        };
        integer(c"Batch Size", BATCH_TEXTS as u64);
        if (*explain).analyze {
            integer(c"Batches", own.batches);
            integer(c"Rows", own.took.rows);
            integer(c"Distinct Texts", own.took.texts);
            integer(c"Cache Hits", own.took.cached);
            if (*explain).timing {
                let milliseconds = own.took.micros as f64 / 1e3;
                pg_sys::ExplainPropertyFloat(
                    c"Engine Time".as_ptr(),
                    c"ms".as_ptr(),
                    milliseconds,
                    3,
                    explain,
                );
            }
        }
    }
}
