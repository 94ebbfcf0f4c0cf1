//! The call of a procedure.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;

/// How a procedure is called, as its last argument, which SQL does not have.
#[derive(Debug)]
pub(crate) struct ProcedureCall {
    atomic: bool,
}

impl ProcedureCall {
    /// Whether it must not end the transaction that it is called in.
    pub(crate) fn is_atomic(&self) -> bool {
        self.atomic
    }
}

// SAFETY: reads nothing but what PostgreSQL itself put beside the arguments, and checks that it is there.
unsafe impl<'fcx> ArgAbi<'fcx> for ProcedureCall {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the call's context, if it has one, is a node, and lives as long as the call.
        unsafe {
            let fcinfo = pg_sys::FunctionCallInfo::unbox_arg_unchecked(arg);
            let context = (*fcinfo).context;
            let is_call = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_CallContext;
            Self { atomic: !is_call || (*context.cast::<pg_sys::CallContext>()).atomic }
        }
    }

    fn is_virtual_arg() -> bool {
        true
    }
}
