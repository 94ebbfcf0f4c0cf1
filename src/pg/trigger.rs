//! The call of a trigger function.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::{PgMemoryContexts, pg_sys};

use super::row::{Row, StoredRow};
use super::statement::{Outcome, Statement};
use super::table::Table;
use super::table_triggers::arguments;
use super::text::from_server;
use super::transition::{TransitionTable, Written};
use crate::error::{Error, OrRaise, TableFault};

/// What a trigger function is told, as its only argument.
#[derive(Debug)]
pub(crate) struct TriggerCall<'a> {
    fcinfo: pg_sys::FunctionCallInfo,
    data: &'a pg_sys::TriggerData,
}

/// What made the trigger fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    BeforeInsertRow,
    BeforeUpdateRow,
    AfterInsertStatement,
    AfterUpdateStatement,
    AfterDeleteStatement,
    AfterTruncateStatement,
    /// What no trigger function of this extension is for.
    Other,
}

impl<'a> TriggerCall<'a> {
    pub(crate) fn event(&self) -> Event {
        const MOMENT: u32 = pg_sys::TRIGGER_EVENT_TIMINGMASK | pg_sys::TRIGGER_EVENT_ROW;
        const BEFORE_ROW: u32 = pg_sys::TRIGGER_EVENT_BEFORE | pg_sys::TRIGGER_EVENT_ROW;
        const AFTER_STATEMENT: u32 = pg_sys::TRIGGER_EVENT_AFTER;
        let event = self.data.tg_event;
        match (event & MOMENT, event & pg_sys::TRIGGER_EVENT_OPMASK) {
            (BEFORE_ROW, pg_sys::TRIGGER_EVENT_INSERT) => Event::BeforeInsertRow,
            (BEFORE_ROW, pg_sys::TRIGGER_EVENT_UPDATE) => Event::BeforeUpdateRow,
            (AFTER_STATEMENT, pg_sys::TRIGGER_EVENT_INSERT) => Event::AfterInsertStatement,
            (AFTER_STATEMENT, pg_sys::TRIGGER_EVENT_UPDATE) => Event::AfterUpdateStatement,
            (AFTER_STATEMENT, pg_sys::TRIGGER_EVENT_DELETE) => Event::AfterDeleteStatement,
            (AFTER_STATEMENT, pg_sys::TRIGGER_EVENT_TRUNCATE) => Event::AfterTruncateStatement,
            _ => Event::Other,
        }
    }

    pub(crate) fn table(&self) -> Table {
        // SAFETY: the relation is open while its trigger runs.
        unsafe { Table::borrowed(self.data.tg_relation) }
    }

    /// The trigger's name.
    pub(crate) fn name(&self) -> String {
        // SAFETY: a trigger has a name that ends with NUL.
        from_server(unsafe { CStr::from_ptr(self.trigger().tgname) })
    }

    /// What CREATE TRIGGER names between the parentheses.
    pub(crate) fn arguments(&self) -> Vec<String> {
        // SAFETY: the trigger is one of the relation that is open.
        unsafe { arguments(self.trigger()) }
    }

    /// The trigger's comment.
    pub(crate) fn comment(&self) -> Option<String> {
        self.table().trigger_comment(self.trigger().tgoid, &self.name())
    }

    /// The row as it was, of a row trigger for UPDATE.
    pub(crate) fn old_row(&self) -> Row<'a> {
        // SAFETY: in a row trigger this slot holds the row that the trigger is for.
        unsafe { Row::from_slot(self.data.tg_trigslot) }
    }

    /// The row as it is to be, of a row trigger for INSERT or UPDATE.
    pub(crate) fn new_row(&self) -> Row<'a> {
        let is_update = self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
        let slot = if is_update { self.data.tg_newslot } else { self.data.tg_trigslot };
        // SAFETY: as above.
        unsafe { Row::from_slot(slot) }
    }

    /// The same row, to be stored.
    pub(crate) fn row_to_store(&self) -> StoredRow {
        let is_update = self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
        StoredRow(if is_update { self.data.tg_newtuple } else { self.data.tg_trigtuple })
    }

    /// The rows as they were, of a statement trigger for UPDATE that names them.
    pub(crate) fn old_rows(&self) -> Option<TransitionTable<'a>> {
        // SAFETY: the table, if there is one, holds rows of the relation as long as the trigger runs.
        unsafe { TransitionTable::open(self.data.tg_oldtable, self.table().descriptor()) }
    }

    /// The rows as they are now, of a statement trigger for INSERT or UPDATE that names them.
    pub(crate) fn new_rows(&self) -> Option<TransitionTable<'a>> {
        // SAFETY: as above.
        unsafe { TransitionTable::open(self.data.tg_newtable, self.table().descriptor()) }
    }

    /// How many triggers are running, this one included.
    pub(crate) fn depth(&self) -> i32 {
        // SAFETY: a function without arguments.
        unsafe { pgrx::direct_function_call(pg_sys::pg_trigger_depth, &[]) }.unwrap_or(0)
    }

    /// Writes vectors to the trigger's table. Whoever calls this must have nothing to drop, nor must its callers:
    /// errors of the statement jump over them.
    pub(crate) fn write(&self, written: Written) -> Result<(), TableFault> {
        // SAFETY: the only caller is the trigger function itself, which keeps to it.
        unsafe { written.write() }
    }

    /// Runs a statement, under the same condition.
    pub(crate) fn run(&self, statement: Statement) -> Outcome {
        // SAFETY: as above.
        unsafe { statement.run() }
    }

    /// A value that is made once for all calls of the trigger in one statement.
    pub(crate) fn once_per_statement<T: 'static>(
        &self,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<&'a T, Error> {
        // SAFETY: `fn_extra` belongs to the function; the executor keeps it, and the memory context it is in, for
        // the calls of this trigger of this relation in one statement. Nothing else is ever put there.
        unsafe {
            let function = (*self.fcinfo).flinfo;
            if (*function).fn_extra.is_null() {
                let value = make()?;
                let made = PgMemoryContexts::For((*function).fn_mcxt).leak_and_drop_on_delete(value);
                (*function).fn_extra = made.cast();
            }
            Ok(&*(*function).fn_extra.cast::<T>())
        }
    }

    fn trigger(&self) -> &pg_sys::Trigger {
        // SAFETY: a trigger function is called with its trigger.
        unsafe { &*self.data.tg_trigger }
    }
}

// SAFETY: reads nothing but what PostgreSQL itself put beside the arguments, and checks that it is there.
unsafe impl<'fcx> ArgAbi<'fcx> for TriggerCall<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the call's context, if it has one, is a node, and lives as long as the call.
        unsafe {
            let fcinfo = pg_sys::FunctionCallInfo::unbox_arg_unchecked(arg);
            let context = (*fcinfo).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                Err(Error::NotATrigger).or_raise()
            }
            Self { fcinfo, data: &*context.cast() }
        }
    }

    fn is_virtual_arg() -> bool {
        true
    }
}

// SAFETY: trigger functions return a tuple, or NULL with the call's flag for NULL unset.
unsafe impl BoxRet for StoredRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: the tuple was given by the caller, or made in the memory context of this call.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

/// What a trigger function for statements returns, which nobody looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nothing;

// SAFETY: as above.
unsafe impl BoxRet for Nothing {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: trigger functions must not set the flag for NULL.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::null()) }
    }
}
