//! Taking calls out of expressions.
//!
//! On the output side a plan computes expressions that hold calls. A new node above it computes the calls for many
//! rows at once, and then the expressions; whatever holds no call is still computed by the plan, as a column of its
//! own. On the input side, calls in the arguments of aggregates, window functions and set-returning functions are
//! computed by a new node below.
//!
//! A call may be taken out where it is evaluated exactly once for each row, whatever else the expression does. Only
//! kinds of nodes that are known to be like that are looked into: new kinds in later versions of PostgreSQL are left
//! alone.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::Rc;

use pgrx::pg_sys::{self, Node, NodeTag::*};
use pgrx::prelude::*;

use super::guard::{Arm, guarded};
use super::known::{Known, is_transparent};
use super::values::Opened;
use crate::planner::nodes::{
    INDEX_VAR, OUTER_VAR, Relation, column, copy, items, list, mutate, node, tag, walk,
};

/// Conditions of CASE and COALESCE that are put into calls' arguments at most. Each is evaluated for each row, and of a
/// CASE with calls in all of its arms there are as many as the square of these.
const MAX_CONDITIONS: usize = 4096;

/// What was taken out of a plan's expressions.
#[derive(Default)]
pub(super) struct Lift {
    known: Rc<Known>,
    /// Expressions that the plan below computes, as its columns.
    pub(super) columns: Vec<*mut Node>,
    /// Calls over these columns.
    pub(super) calls: Vec<*mut pg_sys::FuncExpr>,
    /// Columns of VALUES that hold the arguments of calls.
    values: Vec<Opened>,
    /// References to calls, which are numbered when it is known how many columns there are.
    references: Vec<(*mut pg_sys::Var, usize)>,
    /// Arms of CASE and COALESCE around the expression at hand, the outermost first.
    arms: Vec<Arm>,
    /// Conditions that were put into arguments.
    conditions: usize,
    /// Whether the arguments of an aggregate, window function or set-returning function are at hand.
    inside: bool,
    input: Input,
    /// Whether something was met that cannot be taken apart.
    failed: bool,
}

/// What reads calls as arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Input {
    #[default]
    Aggregates,
    /// Aggregates as window functions, over frames that hold every row that is read.
    Windows,
    /// Set-returning functions, and whatever else a ProjectSet computes.
    Sets,
}

impl Lift {
    /// For what a plan outputs, over VALUES with columns that have been opened.
    pub(super) fn of_output(known: &Rc<Known>, values: Vec<Opened>) -> Self {
        Self { known: Rc::clone(known), values, ..Self::default() }
    }

    /// For arguments. The columns are those that the plan below has.
    pub(super) fn of_input(known: &Rc<Known>, columns: Vec<*mut Node>, input: Input) -> Self {
        Self { known: Rc::clone(known), columns, input, ..Self::default() }
    }

    /// Whether all was taken apart, and makes no more columns than a row may have.
    pub(super) fn succeeded(&self) -> bool {
        !self.failed && self.columns.len() + self.calls.len() <= pg_sys::MaxTupleAttributeNumber as usize
    }

    /// The expression without its calls, for the new node above.
    ///
    /// # Safety
    ///
    /// `expression` must be one of the plan's output.
    pub(super) unsafe fn output(&mut self, expression: *mut Node) -> *mut Node {
        // SAFETY: the mutator is called with this value.
        unsafe { lift_output(expression, (&raw mut *self).cast()) }
    }

    /// The expression without its calls, for the plan itself.
    ///
    /// # Safety
    ///
    /// `expression` must be one of the plan's.
    pub(super) unsafe fn input(&mut self, expression: *mut Node) -> *mut Node {
        self.inside = self.input == Input::Sets;
        // SAFETY: as above.
        unsafe { lift_input(expression, (&raw mut *self).cast()) }
    }

    /// Numbers the references to calls, which come after the columns.
    pub(super) fn number_references(&self) {
        for (reference, call) in &self.references {
            // SAFETY: made by this value.
            unsafe { (**reference).varattno = (self.columns.len() + call + 1) as i16 };
        }
    }

    /// The number of the column that computes an expression.
    unsafe fn column(&mut self, expression: *mut Node) -> usize {
        // SAFETY: compares expressions.
        unsafe {
            // Two volatile expressions are two values, however alike they look.
            let known = (self.columns.iter())
                .position(|known| pg_sys::equal(known.cast(), expression.cast()))
                .filter(|_| !pg_sys::contain_volatile_functions(expression));
            known.unwrap_or_else(|| {
                self.columns.push(expression);
                self.columns.len() - 1
            }) + 1
        }
    }

    /// A reference to a call, which is computed once however often it occurs.
    unsafe fn reference(&mut self, call: *mut pg_sys::FuncExpr, of: Relation) -> *mut Node {
        // SAFETY: compares expressions, and makes one of the call's type.
        unsafe {
            let known = self.calls.iter().position(|known| pg_sys::equal(known.cast(), call.cast()));
            let number = known.unwrap_or_else(|| {
                self.calls.push(call);
                self.calls.len() - 1
            });
            let reference = column(of, 1, call.cast());
            self.references.push((reference, number));
            reference.cast()
        }
    }

    /// An aggregate without the calls in its arguments. With a FILTER not every row's are evaluated. Direct arguments
    /// are evaluated once for a group.
    unsafe fn aggregate(&mut self, aggregate: *mut pg_sys::Aggref) -> *mut Node {
        // SAFETY: a shallow copy, whose arguments are a list of their own.
        unsafe {
            if !(*aggregate).aggfilter.is_null() {
                return copy(aggregate).cast();
            }
            let lifted = node::<pg_sys::Aggref>(T_Aggref);
            *lifted = *aggregate;
            self.inside = true;
            (*lifted).args = lift_input((*aggregate).args.cast(), (&raw mut *self).cast()).cast();
            self.inside = false;
            lifted.cast()
        }
    }

    /// The same for an aggregate that is used as a window function. Others need not look at every row.
    unsafe fn window_function(&mut self, function: *mut pg_sys::WindowFunc) -> *mut Node {
        // SAFETY: as above.
        unsafe {
            let reads_all =
                self.input == Input::Windows && (*function).winagg && (*function).aggfilter.is_null();
            if !reads_all {
                return copy(function).cast();
            }
            let lifted = node::<pg_sys::WindowFunc>(T_WindowFunc);
            *lifted = *function;
            self.inside = true;
            (*lifted).args = lift_input((*function).args.cast(), (&raw mut *self).cast()).cast();
            self.inside = false;
            lifted.cast()
        }
    }

    unsafe fn call(&mut self, call: *mut pg_sys::FuncExpr) -> *mut Node {
        // SAFETY: a call's arguments are expressions.
        unsafe {
            self.conditions += self.arms.iter().map(Arm::count_conditions).sum::<usize>();
            if self.conditions > MAX_CONDITIONS {
                self.failed = true;
                return copy(call).cast();
            }
            let over_columns = node::<pg_sys::FuncExpr>(T_FuncExpr);
            *over_columns = *call;
            (*over_columns).args = list(items::<Node>((*call).args).into_iter().map(|argument| {
                if tag(argument) == T_Const {
                    return copy(argument);
                }
                // The functions are STRICT: a NULL argument says that the value is not needed.
                let argument = self.arms.iter().rev().fold(argument, |inner, arm| guarded(arm, inner));
                column(OUTER_VAR, self.column(argument), argument).cast()
            }));
            self.reference(over_columns, INDEX_VAR)
        }
    }

    /// A CASE or COALESCE some of whose arms hold calls: evaluated by the new node, over columns of the plan below.
    unsafe fn conditional(&mut self, expression: *mut Node) -> *mut Node {
        // SAFETY: both nodes hold lists of their arms.
        unsafe {
            if tag(expression) == T_CaseExpr {
                let old = expression.cast::<pg_sys::CaseExpr>();
                let new = node::<pg_sys::CaseExpr>(T_CaseExpr);
                *new = *old;
                let arms = items::<pg_sys::CaseWhen>((*old).args);
                (*new).args = list(arms.into_iter().enumerate().map(|(place, arm)| {
                    let when = node::<pg_sys::CaseWhen>(T_CaseWhen);
                    *when = *arm;
                    (*when).expr = self.leaves((*arm).expr.cast()).cast();
                    (*when).result = self.arm(Arm::new(expression, place), (*arm).result.cast()).cast();
                    when
                }));
                let default = Arm::otherwise(expression);
                (*new).defresult = self.arm(default, (*old).defresult.cast()).cast();
                return new.cast();
            }
            let old = expression.cast::<pg_sys::CoalesceExpr>();
            let new = node::<pg_sys::CoalesceExpr>(T_CoalesceExpr);
            *new = *old;
            let arguments = items::<Node>((*old).args);
            let last = arguments.len() - 1;
            (*new).args = list(arguments.into_iter().enumerate().map(|(place, argument)| {
                if place == last {
                    self.arm(Arm::otherwise(expression), argument)
                } else {
                    self.leaves(argument)
                }
            }));
            new.cast()
        }
    }

    unsafe fn arm(&mut self, arm: Arm, expression: *mut Node) -> *mut Node {
        if expression.is_null() {
            return expression;
        }
        self.arms.push(arm);
        // SAFETY: the caller's promise.
        let lifted = unsafe {
            if self.known.holds_call(expression) { self.output(expression) } else { self.leaves(expression) }
        };
        self.arms.pop();
        lifted
    }

    /// The expression over columns of the plan below. Only what cannot fail is moved there.
    unsafe fn leaves(&mut self, expression: *mut Node) -> *mut Node {
        // SAFETY: the mutator is called with this value.
        unsafe { lift_leaves(expression, (&raw mut *self).cast()) }
    }
}

/// Gives a node's replacement on the output side. The context is a [`Lift`].
#[pg_guard]
unsafe extern "C-unwind" fn lift_output(expression: *mut Node, context: *mut c_void) -> *mut Node {
    // SAFETY: called with an expression or NULL, and the context given above.
    unsafe {
        if expression.is_null() {
            return expression;
        }
        let lift = &mut *context.cast::<Lift>();
        match tag(expression) {
            T_List => return mutate(expression, lift_output, context),
            T_Const => return copy(expression),
            T_Var => {
                let var = expression.cast::<pg_sys::Var>();
                if let Some(opened) = lift.values.iter().find(|opened| opened.is_column(var)) {
                    return lift_output(opened.call, context);
                }
            }
            _ => {}
        }
        if lift.known.is_call(expression) {
            // A volatile argument, such as the current value of a sequence, has to be computed with its row.
            lift.failed |= pg_sys::contain_volatile_functions(expression);
            return lift.call(expression.cast());
        }
        if lift.known.guards_calls(expression) {
            return lift.conditional(expression);
        }
        if lift.known.holds_call(expression) {
            return mutate(expression, lift_output, context);
        }
        // What is in an arm may fail where another arm is the one that is evaluated, so it stays there.
        if !lift.arms.is_empty() {
            return lift.leaves(expression);
        }
        // So does what is volatile, such as the next value of a sequence: below it would run ahead of its row.
        if pg_sys::contain_volatile_functions(expression) {
            if has_odd_parts(expression, null_mut()) {
                lift.failed = true;
            }
            return lift.leaves(expression);
        }
        column(INDEX_VAR, lift.column(expression), expression).cast()
    }
}

/// Walks an expression for parts that only the plan below can evaluate.
#[pg_guard]
unsafe extern "C-unwind" fn has_odd_parts(expression: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: called with an expression or NULL.
    unsafe {
        !expression.is_null()
            && ((!is_transparent(expression) && tag(expression) != T_NextValueExpr)
                || walk(expression, has_odd_parts, context))
    }
}

/// Gives a leaf's replacement: a column of the plan below. Parameters stay: those that subqueries compute are computed
/// when they are first looked at, if ever.
#[pg_guard]
unsafe extern "C-unwind" fn lift_leaves(expression: *mut Node, context: *mut c_void) -> *mut Node {
    // SAFETY: called with an expression or NULL, and the context given above.
    unsafe {
        if expression.is_null() {
            return expression;
        }
        if tag(expression) == T_Var {
            let lift = &mut *context.cast::<Lift>();
            return column(INDEX_VAR, lift.column(expression), expression).cast();
        }
        mutate(expression, lift_leaves, context)
    }
}

/// Gives a node's replacement on the input side. The context is a [`Lift`].
#[pg_guard]
unsafe extern "C-unwind" fn lift_input(expression: *mut Node, context: *mut c_void) -> *mut Node {
    // SAFETY: called with an expression or NULL, and the context given above.
    unsafe {
        if expression.is_null() {
            return expression;
        }
        let lift = &mut *context.cast::<Lift>();
        if lift.inside {
            // A volatile argument is another for each evaluation.
            if lift.known.is_call(expression) && !pg_sys::contain_volatile_functions(expression) {
                return lift.reference(copy(expression.cast()), OUTER_VAR);
            }
            let is_set = lift.input == Input::Sets && matches!(tag(expression), T_FuncExpr | T_OpExpr);
            if !is_set && !is_transparent(expression) {
                return copy(expression);
            }
            return mutate(expression, lift_input, context);
        }
        match tag(expression) {
            T_Aggref => lift.aggregate(expression.cast()),
            T_WindowFunc => lift.window_function(expression.cast()),
            _ => mutate(expression, lift_input, context),
        }
    }
}
