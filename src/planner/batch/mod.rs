//! Plain SQL in batches: a node that computes calls of `embed` for many rows at once.
//!
//! PostgreSQL evaluates a function call for one row at a time. Here the finished plan is changed: where a plan node
//! outputs calls, a [`scan`] node is put above it; where calls are arguments of an aggregate, a window function or a
//! set-returning function, one is put below. The node reads rows ahead, sends all their texts together, and gives the
//! rows on with the vectors in the calls' place.
//!
//! Whatever is not understood stays as it is, row by row, and is as correct as before.

mod ahead;
mod guard;
mod known;
mod lift;
mod rows;
mod scan;
mod values;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::Rc;

use pgrx::pg_sys::{self, List, NodeTag::*, Plan, PlannedStmt};

use self::known::Known;
use self::lift::{Input, Lift};
use super::function::Signature;
use super::nodes::{INDEX_VAR, OUTER_VAR, Relation, change_items, column, items, list, node, tag, walk};

pub(super) use scan::register;

/// Puts nodes for batches into a finished plan.
///
/// # Safety
///
/// `statement` must be a finished plan that may be changed.
pub(super) unsafe fn rewrite(statement: *mut PlannedStmt) {
    // SAFETY: the statement's plans are its own.
    unsafe {
        // Rows that a SELECT locks are where a cursor is, which a node that reads ahead is not.
        let locks =
            (*statement).commandType == pg_sys::CmdType::CMD_SELECT && !(*statement).rowMarks.is_null();
        let known = Rc::new(Known::default());
        if locks || !any_calls(&known, statement) || ahead::may_run_user_code(statement) {
            return;
        }
        let plans = items::<Plan>((*statement).subplans);
        let last = plans.into_iter().chain([(*statement).planTree]).map(|plan| last_id(plan)).max();
        let mut rewriter = Rewriter { known, next_id: last.unwrap_or(0) + 1 };
        (*statement).planTree = rewriter.plan((*statement).planTree, Wish::of(Reader::Undecided));
        change_items((*statement).subplans, |plan| rewriter.plan(plan, Wish::of(Reader::Undecided)));
    }
}

/// Whether a plan computes calls in what it outputs, or as arguments of what it outputs.
///
/// # Safety
///
/// `statement` must be a finished plan.
pub(super) unsafe fn has_calls(statement: *mut PlannedStmt) -> bool {
    // SAFETY: the caller's promise.
    unsafe { any_calls(&Known::default(), statement) }
}

unsafe fn any_calls(known: &Known, statement: *mut PlannedStmt) -> bool {
    // SAFETY: as above.
    unsafe {
        let mut plans = items::<Plan>((*statement).subplans);
        plans.push((*statement).planTree);
        while let Some(plan) = plans.pop() {
            if plan.is_null() {
                continue;
            }
            if any_call(known, (*plan).targetlist) || any_call(known, (*plan).qual) {
                return true;
            }
            if values::holds_calls(known, plan) {
                return true;
            }
            plans.extend(children(plan));
        }
        false
    }
}

/// A walk over the plan that sees calls anywhere in a list of expressions.
unsafe fn any_call(known: &Known, expressions: *mut List) -> bool {
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn is_in(expression: *mut pg_sys::Node, context: *mut c_void) -> bool {
        // SAFETY: called with an expression or NULL, and the context given below.
        unsafe {
            !expression.is_null()
                && ((*context.cast::<Known>()).is_call(expression) || walk(expression, is_in, context))
        }
    }
    // SAFETY: the caller's promise.
    unsafe { is_in(expressions.cast(), (&raw const *known).cast_mut().cast()) }
}

/// What reads a plan's rows, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    reader: Reader,
    bound: Bound,
}

impl Wish {
    fn of(reader: Reader) -> Self {
        Self { reader, bound: Bound::None }
    }
}

/// Whether a LIMIT tells a Sort below how many rows it wants, so that it keeps no more. A node in between would not
/// hand that on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    None,
    /// A LIMIT is right above, or a Gather below one. They exchange places with a node.
    Above,
    /// Plans in between hand it on.
    Further,
}

/// What reads a plan's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Reads all of them.
    Eager,
    /// May stop at any row.
    Undecided,
    /// Goes back to rows it has seen, which a node that reads ahead cannot serve.
    Returning,
}

struct Rewriter {
    known: Rc<Known>,
    next_id: i32,
}

impl Rewriter {
    /// Rewrites a plan and all below it; returns what takes its place.
    unsafe fn plan(&mut self, plan: *mut Plan, wish: Wish) -> *mut Plan {
        let Wish { reader, bound } = wish;
        // SAFETY: plans of a kind are what their tag says.
        unsafe {
            if plan.is_null() {
                return plan;
            }
            pg_sys::check_stack_depth();
            let kind = tag(plan.cast());
            let below = match kind {
                T_ModifyTable | T_Sort | T_Hash => Reader::Eager,
                T_Agg if reads_all(plan.cast()) => Reader::Eager,
                T_Limit | T_Gather | T_GatherMerge | T_Memoize => Reader::Undecided,
                _ if reader == Reader::Returning && kind != T_Result => Reader::Undecided,
                _ => reader,
            };
            let below = Wish { reader: below, bound: bound_below(plan, bound) };
            match kind {
                T_SubqueryScan => {
                    let scan = plan.cast::<pg_sys::SubqueryScan>();
                    (*scan).subplan = self.plan((*scan).subplan, below);
                }
                T_Append => {
                    change_items((*plan.cast::<pg_sys::Append>()).appendplans, |plan| self.plan(plan, below));
                }
                T_MergeAppend => {
                    change_items((*plan.cast::<pg_sys::MergeAppend>()).mergeplans, |plan| {
                        self.plan(plan, below)
                    });
                }
                // What is below is somebody else's.
                T_CustomScan | T_ForeignScan => {}
                T_MergeJoin => {
                    (*plan).lefttree = self.plan((*plan).lefttree, Wish::of(Reader::Undecided));
                    (*plan).righttree = self.plan((*plan).righttree, Wish::of(Reader::Returning));
                }
                T_NestLoop => {
                    (*plan).lefttree = self.plan((*plan).lefttree, below);
                    (*plan).righttree = self.plan((*plan).righttree, Wish::of(Reader::Undecided));
                }
                _ => {
                    (*plan).lefttree = self.plan((*plan).lefttree, below);
                    (*plan).righttree = self.plan((*plan).righttree, below);
                }
            }
            let eager = below.reader == Reader::Eager;
            match kind {
                T_Agg => self.below(plan, Input::Aggregates, eager),
                T_WindowAgg if has_whole_frames(plan.cast()) => self.below(plan, Input::Windows, eager),
                T_ProjectSet => {
                    self.below(plan, Input::Sets, false);
                    return plan;
                }
                _ => {}
            }
            match kind {
                // These hand rows on as they are.
                T_ModifyTable | T_Append | T_MergeAppend | T_RecursiveUnion | T_Hash | T_Material
                | T_Memoize | T_Sort | T_IncrementalSort | T_Unique | T_SetOp | T_BitmapAnd | T_BitmapOr
                | T_CustomScan => plan,
                T_Limit | T_LockRows => swap(plan),
                T_Gather | T_GatherMerge if bound == Bound::Above => swap_gather(plan),
                T_Result if (*plan).lefttree.is_null() => plan,
                _ if reader == Reader::Returning => plan,
                _ if bound == Bound::Further && sorts_within_bound(plan) => plan,
                _ => self.above(plan, reader == Reader::Eager),
            }
        }
    }

    /// Puts a node above a plan that outputs calls.
    unsafe fn above(&mut self, plan: *mut Plan, eager: bool) -> *mut Plan {
        // SAFETY: target lists hold target entries; the plan is changed to output the columns that the node reads.
        unsafe {
            let targets = (*plan).targetlist;
            if targets.is_null() || reads_its_own_output(plan) {
                return plan;
            }
            let values = values::find(&self.known, plan);
            if values.is_empty() && !self.known.holds_call(targets.cast()) {
                return plan;
            }
            let mut lift = Lift::of_output(&self.known, values.clone());
            // LockRows finds the columns that identify rows by their names.
            let mut names = Vec::new();
            let output = list(items::<pg_sys::TargetEntry>(targets).into_iter().map(|target| {
                let lifted = pg_sys::flatCopyTargetEntry(target);
                (*lifted).expr = lift.output((*target).expr.cast()).cast();
                if (*target).resjunk && tag((*target).expr.cast()) == T_Var {
                    names.push(((*(*lifted).expr.cast::<pg_sys::Var>()).varattno, (*target).resname));
                }
                lifted
            }));
            if !lift.succeeded() {
                return plan;
            }
            values.iter().for_each(|column| column.open());
            lift.number_references();
            (*plan).targetlist = list((1..).zip(&lift.columns).map(|(number, expression)| {
                let name = names.iter().find(|(of, _)| *of == number).map(|(_, name)| *name);
                let expression = (*expression).cast();
                pg_sys::makeTargetEntry(expression, number, name.unwrap_or(null_mut()), name.is_some())
            }));
            // The argument of a call may itself hold a call.
            let below = self.above(plan, eager);
            let scan = self.scan(below, &lift, eager);
            (*scan).scan.plan.targetlist = output;
            scan.cast()
        }
    }

    /// Puts a node below a plan whose aggregates, window functions or set-returning functions have calls among their
    /// arguments. The columns that the plan reads keep their numbers; the calls come after them.
    unsafe fn below(&mut self, plan: *mut Plan, input: Input, eager: bool) {
        // SAFETY: as above.
        unsafe {
            let child = (*plan).lefttree;
            if child.is_null()
                || !(any_call(&self.known, (*plan).targetlist) || any_call(&self.known, (*plan).qual))
            {
                return;
            }
            let columns = items::<pg_sys::TargetEntry>((*child).targetlist);
            let expressions = columns.iter().map(|target| (**target).expr.cast()).collect();
            let mut lift = Lift::of_input(&self.known, expressions, input);
            let targets = lift.input((*plan).targetlist.cast());
            let condition = lift.input((*plan).qual.cast());
            if lift.calls.is_empty() || !lift.succeeded() {
                return;
            }
            lift.number_references();
            (*plan).targetlist = targets.cast();
            (*plan).qual = condition.cast();
            let scan = self.scan(child, &lift, eager);
            let kept = (1..).zip(&columns).map(|(number, target)| {
                let kept = pg_sys::flatCopyTargetEntry(*target);
                (*kept).expr = column(INDEX_VAR, number, (**target).expr.cast()).cast();
                kept
            });
            let calls = (columns.len() + 1..).zip(&lift.calls).map(|(number, call)| {
                let call = column(INDEX_VAR, number, (*call).cast());
                pg_sys::makeTargetEntry(call.cast(), number as i16, null_mut(), false)
            });
            let own = &mut (*scan).scan.plan;
            own.targetlist = list(kept.chain(calls));
            own.extParam = pg_sys::bms_union((*child).extParam, (*plan).extParam);
            own.allParam = pg_sys::bms_union((*child).allParam, (*plan).allParam);
            (*plan).lefttree = scan.cast();
        }
    }

    /// A node above `child` that computes what was taken out.
    unsafe fn scan(&mut self, child: *mut Plan, lift: &Lift, eager: bool) -> *mut pg_sys::CustomScan {
        // SAFETY: a new node, all of whose fields that are not zero are set here or by the caller.
        unsafe {
            let scan = node::<pg_sys::CustomScan>(T_CustomScan);
            let own = &mut (*scan).scan.plan;
            own.startup_cost = (*child).startup_cost;
            own.total_cost = (*child).total_cost;
            own.plan_rows = (*child).plan_rows;
            own.plan_width = (*child).plan_width;
            own.parallel_safe = (*child).parallel_safe;
            #[cfg(feature = "pg18")]
            {
                own.disabled_nodes = (*child).disabled_nodes;
            }
            // An asynchronous scan below a node that does not ask it so gives no rows, and no error.
            (*child).async_capable = false;
            own.plan_node_id = self.next_id;
            self.next_id += 1;
            own.lefttree = child;
            own.extParam = pg_sys::bms_copy((*child).extParam);
            own.allParam = pg_sys::bms_copy((*child).allParam);
            (*scan).methods = scan::methods();
            let columns = (1..).zip(&lift.columns).map(|(number, expression)| {
                let column = column(OUTER_VAR, number, *expression);
                pg_sys::makeTargetEntry(column.cast(), number as i16, null_mut(), false)
            });
            let calls = (lift.columns.len() + 1..).zip(&lift.calls).map(|(number, call)| {
                pg_sys::makeTargetEntry((*call).cast(), number as i16, null_mut(), false)
            });
            (*scan).custom_scan_tlist = list(columns.chain(calls));
            // What the node needs to know of the functions is what they were when the plan was made.
            let signatures = lift.calls.iter().filter_map(|call| self.known.signature((**call).funcid));
            (*scan).custom_private = [i32::from(eager)]
                .into_iter()
                .chain(signatures.map(Signature::to_number))
                .fold(null_mut(), |list, number| pg_sys::lappend_int(list, number));
            scan
        }
    }
}

/// Exchanges a LIMIT or a row lock with the node below it: no row is computed in vain, none that SKIP LOCKED skips,
/// and a Sort below still knows how many rows are wanted.
unsafe fn swap(plan: *mut Plan) -> *mut Plan {
    // SAFETY: the node below is ours, with a plan below it.
    unsafe {
        let scan = (*plan).lefttree;
        if !scan::is_ours(scan) {
            return plan;
        }
        if tag(plan.cast()) == T_Limit {
            let limit = plan.cast::<pg_sys::Limit>();
            // WITH TIES compares rows of its own output.
            if (*limit).limitOption != pg_sys::LimitOption::LIMIT_OPTION_COUNT {
                return plan;
            }
        }
        exchange(plan, swap)
    }
}

/// Exchanges a Gather below a LIMIT with the node below it, so that the workers sort and the leader computes what is
/// left of it.
unsafe fn swap_gather(plan: *mut Plan) -> *mut Plan {
    // SAFETY: as above; a GatherMerge has as many sort columns as it says.
    unsafe {
        let scan = (*plan).lefttree;
        if !scan::is_ours(scan) {
            return plan;
        }
        let outputs = items::<pg_sys::TargetEntry>((*scan).targetlist);
        // Which of the node's outputs the plan gives on.
        let passed: Option<Vec<*mut pg_sys::TargetEntry>> = items::<pg_sys::TargetEntry>((*plan).targetlist)
            .into_iter()
            .map(|target| {
                let number = column_of((*target).expr.cast(), OUTER_VAR)?;
                let computed = pg_sys::flatCopyTargetEntry(target);
                (*computed).expr = (**outputs.get(number as usize - 1)?).expr;
                Some(computed)
            })
            .collect();
        let Some(passed) = passed else { return plan };
        if tag(plan.cast()) == T_GatherMerge {
            let merge = plan.cast::<pg_sys::GatherMerge>();
            let keys = std::slice::from_raw_parts_mut((*merge).sortColIdx, (*merge).numCols as usize);
            let below = (*(*scan).lefttree).targetlist;
            let moved: Option<Vec<i16>> = keys
                .iter()
                .map(|key| column_of((**outputs.get(*key as usize - 1)?).expr.cast(), INDEX_VAR))
                .map(|column| column.filter(|column| i32::from(*column) <= pg_sys::list_length(below)))
                .collect();
            let Some(moved) = moved else { return plan };
            keys.copy_from_slice(&moved);
        }
        (*scan).targetlist = list(passed);
        exchange(plan, swap_gather)
    }
}

/// The number of the column that an expression is, if it is one.
unsafe fn column_of(expression: *mut pg_sys::Node, of: Relation) -> Option<i16> {
    // SAFETY: the caller's promise.
    unsafe {
        let var = expression.cast::<pg_sys::Var>();
        (tag(expression) == T_Var && (*var).varno == of && (*var).varattno > 0).then(|| (*var).varattno)
    }
}

/// Puts a plan that gives rows on as they are below the node that it is above of, and `again` below the next.
unsafe fn exchange(plan: *mut Plan, again: unsafe fn(*mut Plan) -> *mut Plan) -> *mut Plan {
    // SAFETY: the node below is ours, with a plan below it.
    unsafe {
        let scan = (*plan).lefttree;
        let below = (*scan).lefttree;
        (*plan).targetlist =
            list(items::<pg_sys::TargetEntry>((*below).targetlist).into_iter().map(|target| {
                let passed = pg_sys::flatCopyTargetEntry(target);
                (*passed).expr = column(OUTER_VAR, (*target).resno as usize, (*target).expr.cast()).cast();
                passed
            }));
        (*plan).lefttree = below;
        // The argument of a call may be another node's.
        (*scan).lefttree = again(plan);
        (*scan).plan_rows = (*plan).plan_rows;
        (*scan).startup_cost = (*plan).startup_cost;
        (*scan).total_cost = (*plan).total_cost;
        (*scan).parallel_safe = (*plan).parallel_safe;
        (*scan).extParam = pg_sys::bms_copy((*plan).extParam);
        (*scan).allParam = pg_sys::bms_copy((*plan).allParam);
        scan
    }
}

/// Whether a LIMIT that bounds a plan bounds those below it. As `ExecSetTupleBound` in execProcnode.c.
unsafe fn bound_below(plan: *mut Plan, bound: Bound) -> Bound {
    // SAFETY: plans of a kind are what their tag says.
    unsafe {
        match tag(plan.cast()) {
            T_Limit if is_bound(plan.cast()) => Bound::Above,
            _ if bound == Bound::None => Bound::None,
            T_Gather | T_GatherMerge => bound,
            T_Result | T_Append | T_MergeAppend => Bound::Further,
            T_SubqueryScan if (*plan).qual.is_null() => Bound::Further,
            _ => Bound::None,
        }
    }
}

unsafe fn is_bound(limit: *mut pg_sys::Limit) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        !(*limit).limitCount.is_null() && (*limit).limitOption == pg_sys::LimitOption::LIMIT_OPTION_COUNT
    }
}

/// Whether a Sort is below a plan that hands a LIMIT's bound on to it.
unsafe fn sorts_within_bound(plan: *mut Plan) -> bool {
    // SAFETY: as above.
    unsafe {
        match tag(plan.cast()) {
            T_Sort | T_IncrementalSort => true,
            _ if bound_below(plan, Bound::Further) == Bound::None => false,
            _ => children(plan).into_iter().any(|child| !child.is_null() && sorts_within_bound(child)),
        }
    }
}

/// Whether an aggregation reads all rows before it gives one.
unsafe fn reads_all(plan: *mut pg_sys::Agg) -> bool {
    use pg_sys::AggStrategy::{AGG_HASHED, AGG_PLAIN};
    // SAFETY: the caller's promise.
    unsafe { matches!((*plan).aggstrategy, AGG_PLAIN | AGG_HASHED) }
}

/// Whether the frames of a window hold every row up to the current one.
unsafe fn has_whole_frames(plan: *mut pg_sys::WindowAgg) -> bool {
    // SAFETY: the caller's promise.
    let options = unsafe { (*plan).frameOptions } as u32;
    options & pg_sys::FRAMEOPTION_START_UNBOUNDED_PRECEDING != 0
        && options & pg_sys::FRAMEOPTION_EXCLUSION == 0
}

/// Whether a plan has conditions over its own output, whose columns must stay where they are.
unsafe fn reads_its_own_output(plan: *mut Plan) -> bool {
    #[cfg(not(feature = "pg14"))]
    // SAFETY: a plan of this kind is what its tag says.
    unsafe {
        tag(plan.cast()) == T_WindowAgg && !(*plan.cast::<pg_sys::WindowAgg>()).runCondition.is_null()
    }
    #[cfg(feature = "pg14")]
    {
        let _ = plan;
        false
    }
}

/// The highest number of a plan's nodes.
unsafe fn last_id(plan: *mut Plan) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        if plan.is_null() {
            return 0;
        }
        let below = children(plan).into_iter().map(|child| last_id(child)).max();
        below.unwrap_or(0).max((*plan).plan_node_id)
    }
}

/// The plans right below a plan, NULLs among them.
unsafe fn children(plan: *mut Plan) -> Vec<*mut Plan> {
    // SAFETY: plans of a kind are what their tag says.
    unsafe {
        let mut children = match tag(plan.cast()) {
            T_SubqueryScan => vec![(*plan.cast::<pg_sys::SubqueryScan>()).subplan],
            T_Append => items((*plan.cast::<pg_sys::Append>()).appendplans),
            T_MergeAppend => items((*plan.cast::<pg_sys::MergeAppend>()).mergeplans),
            T_BitmapAnd => items((*plan.cast::<pg_sys::BitmapAnd>()).bitmapplans),
            T_BitmapOr => items((*plan.cast::<pg_sys::BitmapOr>()).bitmapplans),
            T_CustomScan => items((*plan.cast::<pg_sys::CustomScan>()).custom_plans),
            _ => Vec::new(),
        };
        children.extend([(*plan).lefttree, (*plan).righttree]);
        children
    }
}
