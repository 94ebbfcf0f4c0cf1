//! Conditions that a store may be able to apply.

use std::ffi::c_void;

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};
use vector_embed_sources::{Comparison, Filter, Operand, Operation};

use super::columns::Column;
use crate::error::Error;
use crate::pg::nodes::{items, tag};
use crate::pg::text::Text;

/// Operators of `double precision` and `real`; pgrx has no name for it.
const FLOAT_FAMILY: pg_sys::Oid = pg_sys::Oid::from_u32(1970);
const FAMILIES: [pg_sys::Oid; 3] = [pg_sys::INTEGER_BTREE_FAM_OID, FLOAT_FAMILY, pg_sys::TEXT_BTREE_FAM_OID];

/// A condition on one column, with the expression that it is compared with, or NULL.
pub(super) struct Condition {
    pub(super) number: i16,
    pub(super) operation: Operation,
    pub(super) operand: *mut pg_sys::Expr,
}

/// How a plan tells of a condition.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Stored {
    number: i16,
    operation: u8,
}

const OPERATIONS: [Operation; 8] = [
    Operation::Compare(Comparison::Less),
    Operation::Compare(Comparison::LessOrEqual),
    Operation::Compare(Comparison::Equal),
    Operation::Compare(Comparison::GreaterOrEqual),
    Operation::Compare(Comparison::Greater),
    Operation::In,
    Operation::IsNull,
    Operation::IsNotNull,
];

impl Condition {
    pub(super) fn stored(&self) -> Stored {
        let at = OPERATIONS.iter().position(|operation| *operation == self.operation);
        Stored { number: self.number, operation: at.unwrap_or_default() as u8 }
    }
}

impl Stored {
    /// Whether it has an operand.
    pub(super) fn compares(self) -> bool {
        !matches!(self.operation(), Operation::IsNull | Operation::IsNotNull)
    }

    fn operation(self) -> Operation {
        OPERATIONS[usize::from(self.operation)]
    }

    /// As a reader takes it.
    pub(super) fn filter(self, columns: &[Column]) -> Option<Filter> {
        filter(self.number, self.operation(), columns)
    }
}

/// As a reader takes it; `None` if the column is not read, or has other values here than there.
pub(super) fn filter(number: i16, operation: Operation, columns: &[Column]) -> Option<Filter> {
    let column = columns.iter().find(|column| column.number == number)?;
    // varchar(n) loses the blanks that are too many.
    let is_cut = column.oid == pg_sys::VARCHAROID && column.modifier >= 0;
    if is_cut && !matches!(operation, Operation::IsNull | Operation::IsNotNull) {
        return None;
    }
    Some(Filter { column: column.name.clone(), of: column.of, operation })
}

/// The condition that a clause is, if it is one.
///
/// # Safety
///
/// `clause` must be an expression over the relation of number `relation`.
pub(super) unsafe fn condition(clause: *mut pg_sys::Expr, relation: u32) -> Option<Condition> {
    // SAFETY: nodes are what their tags tell.
    unsafe {
        match tag(clause.cast()) {
            pg_sys::NodeTag::T_NullTest => {
                let test = clause.cast::<pg_sys::NullTest>();
                let number = column_of((*test).arg, relation)?;
                let operation = match (*test).nulltesttype {
                    pg_sys::NullTestType::IS_NULL => Operation::IsNull,
                    _ => Operation::IsNotNull,
                };
                (!(*test).argisrow).then_some(Condition { number, operation, operand: std::ptr::null_mut() })
            }
            pg_sys::NodeTag::T_OpExpr => {
                let call = clause.cast::<pg_sys::OpExpr>();
                let [left, right] = items::<pg_sys::Expr>((*call).args)[..] else { return None };
                let comparison = comparison((*call).opno)?;
                let (number, operand, comparison) = match column_of(left, relation) {
                    Some(number) => (number, right, comparison),
                    None => (column_of(right, relation)?, left, flip(comparison)),
                };
                let same_bytes = is_bytewise((*call).inputcollid);
                let operation = Operation::Compare(comparison);
                (same_bytes && is_operand(operand)).then_some(Condition { number, operation, operand })
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                let call = clause.cast::<pg_sys::ScalarArrayOpExpr>();
                let [left, right] = items::<pg_sys::Expr>((*call).args)[..] else { return None };
                let is_in = (*call).useOr && comparison((*call).opno)? == Comparison::Equal;
                let number = column_of(left, relation)?;
                let same_bytes = is_bytewise((*call).inputcollid);
                let operand = is_in && same_bytes && is_operand(right);
                operand.then_some(Condition { number, operation: Operation::In, operand: right })
            }
            _ => None,
        }
    }
}

/// The column's number, if the expression is a column of the relation and nothing else.
unsafe fn column_of(expression: *mut pg_sys::Expr, relation: u32) -> Option<i16> {
    // SAFETY: the caller's expression.
    unsafe {
        let mut node = expression;
        // varchar is compared as text.
        while tag(node.cast()) == pg_sys::NodeTag::T_RelabelType {
            node = (*node.cast::<pg_sys::RelabelType>()).arg;
        }
        if tag(node.cast()) != pg_sys::NodeTag::T_Var {
            return None;
        }
        let var = node.cast::<pg_sys::Var>();
        let is_own =
            i64::from((*var).varno) == i64::from(relation) && (*var).varlevelsup == 0 && (*var).varattno > 0;
        is_own.then_some((*var).varattno)
    }
}

fn comparison(operator: pg_sys::Oid) -> Option<Comparison> {
    let strategy = FAMILIES
        .into_iter()
        // SAFETY: looks the operator up.
        .map(|family| unsafe { pg_sys::get_op_opfamily_strategy(operator, family) })
        .find(|strategy| *strategy != 0)?;
    Some(match strategy {
        1 => Comparison::Less,
        2 => Comparison::LessOrEqual,
        3 => Comparison::Equal,
        4 => Comparison::GreaterOrEqual,
        5 => Comparison::Greater,
        _ => return None,
    })
}

fn flip(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Equal => Comparison::Equal,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        Comparison::Greater => Comparison::Less,
    }
}

/// Whether texts that are equal by the collation have the same bytes.
fn is_bytewise(collation: pg_sys::Oid) -> bool {
    // SAFETY: looks the collation up.
    collation == pg_sys::InvalidOid || unsafe { pg_sys::get_collation_isdeterministic(collation) }
}

/// Whether an expression can be evaluated before the rows are read, and has a type that readers compare with.
unsafe fn is_operand(expression: *mut pg_sys::Expr) -> bool {
    // SAFETY: the caller's expression.
    unsafe {
        let of = pg_sys::exprType(expression.cast());
        let element = pg_sys::get_element_type(of);
        let of = if element == pg_sys::InvalidOid { of } else { element };
        matches!(
            of,
            pg_sys::INT2OID
                | pg_sys::INT4OID
                | pg_sys::INT8OID
                | pg_sys::FLOAT4OID
                | pg_sys::FLOAT8OID
                | pg_sys::TEXTOID
                | pg_sys::VARCHAROID
        ) && !pg_sys::contain_var_clause(expression.cast())
            && !pg_sys::contain_volatile_functions(expression.cast())
            && !pg_sys::contain_subplans(expression.cast())
    }
}

/// An evaluated operand, as a reader compares with it.
///
/// # Safety
///
/// The datum must be of that type, and one that [`condition`] takes.
pub(super) unsafe fn operand(datum: pg_sys::Datum, is_null: bool, of: pg_sys::Oid) -> Result<Operand, Error> {
    if is_null {
        return Ok(Operand::Null);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let element = pg_sys::get_element_type(of);
        if element != pg_sys::InvalidOid {
            return elements(datum, element);
        }
        Ok(match of {
            pg_sys::INT2OID => Operand::Integer(i64::from(datum.value() as i16)),
            pg_sys::INT4OID => Operand::Integer(i64::from(datum.value() as i32)),
            pg_sys::INT8OID => Operand::Integer(datum.value() as i64),
            pg_sys::FLOAT4OID => Operand::Float(f64::from(f32::from_bits(datum.value() as u32))),
            pg_sys::FLOAT8OID => Operand::Float(f64::from_bits(datum.value() as u64)),
            _ => Operand::Text(Text::from_datum(datum)?.as_str().to_owned()),
        })
    }
}

unsafe fn elements(array: pg_sys::Datum, of: pg_sys::Oid) -> Result<Operand, Error> {
    // SAFETY: deconstruct_array fills as many values and flags as it counts.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut length, mut by_value, mut alignment) = (0, false, 0);
        pg_sys::get_typlenbyvalalign(of, &mut length, &mut by_value, &mut alignment);
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            of,
            length.into(),
            by_value,
            alignment,
            &mut values,
            &mut nulls,
            &mut count,
        );
        let elements = (0..count as usize).map(|at| operand(*values.add(at), *nulls.add(at), of));
        let elements = elements.collect::<Result<_, _>>()?;
        pg_sys::pfree(values.cast::<c_void>());
        Ok(Operand::Several(elements))
    }
}
