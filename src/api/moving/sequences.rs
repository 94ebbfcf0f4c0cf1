//! `sync_identity`: sequences follow values that were copied.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::error::{Error, OrRaise, TableFault};
use crate::pg::relation::TypedColumn;
use crate::pg::spi;
use crate::pg::table::{Kind, Table, quote_identifier};
use crate::pg::text::ServerText;
use crate::pg::types::Type;

/// A column, its sequence, and what that gives next, if it has not come to its end.
type Synced = (ServerText, pg_sys::Oid, Option<i64>);

type Rows = TableIterator<
    'static,
    (name!(column_name, ServerText), name!(sequence, pg_sys::Oid), name!(next_value, Option<i64>)),
>;

#[pg_extern(sql = false)]
fn sync_identity(relation: Option<pg_sys::Oid>, floor: Option<i64>) -> Rows {
    TableIterator::new(sync(relation, floor).or_raise())
}

fn sync(relation: Option<pg_sys::Oid>, floor: Option<i64>) -> Result<Vec<Synced>, Error> {
    let table = Table::open_to_describe(relation.ok_or(Error::Null("relation"))?)?;
    if !matches!(table.kind(), Kind::Ordinary | Kind::Partitioned) {
        return Err(table.unfit(TableFault::Kind));
    }
    if table.is_partition() {
        return Err(table.unfit(TableFault::Partition));
    }
    // Rows that are being written have taken, or will take, values that are not to be seen yet. Who writes waits; who
    // has written is waited for.
    spi::execute(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", table.quoted_name()))?;
    if table.hides_rows() {
        return Err(table.unfit(TableFault::RowSecurity));
    }
    let sequences = Sequence::all_of(&table)?;
    sequences.into_iter().map(|sequence| sequence.follow(&table, floor)).collect()
}

/// A sequence that a column takes its values from.
struct Sequence {
    oid: pg_sys::Oid,
    name: String,
    /// Its name with its schema, quoted for SQL.
    qualified: String,
    column: String,
    increment: i128,
    /// The last value that both the sequence and the column can have.
    limit: i128,
}

/// How far a sequence and its column have come.
struct State {
    last: i128,
    is_called: bool,
    /// The column's greatest value, or its least if the sequence descends.
    farthest: Option<String>,
    /// The same as a number that can be reckoned with.
    edge: Option<i128>,
}

impl Sequence {
    /// The sequences that columns own, and those that their defaults take values from.
    fn all_of(table: &Table) -> Result<Vec<Self>, Error> {
        let columns = table.typed_columns();
        let rows = spi::texts(&format!(
            "SELECT a.attname, s.seqrelid, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname), s.seqincrement, \
                    CASE WHEN s.seqincrement OPERATOR(pg_catalog.>) 0 THEN s.seqmax ELSE s.seqmin END \
             FROM pg_catalog.pg_attribute AS a \
             JOIN LATERAL ( \
                 SELECT d.objid AS oid FROM pg_catalog.pg_depend AS d \
                 WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
                   AND d.refobjid OPERATOR(pg_catalog.=) a.attrelid \
                   AND d.refobjsubid OPERATOR(pg_catalog.=) a.attnum \
                   AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
                   AND d.deptype OPERATOR(pg_catalog.=) ANY ('{{a,i}}'::pg_catalog.\"char\"[]) \
                 UNION \
                 SELECT d.refobjid FROM pg_catalog.pg_attrdef AS x \
                 JOIN pg_catalog.pg_depend AS d \
                   ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass \
                  AND d.objid OPERATOR(pg_catalog.=) x.oid \
                  AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
                 WHERE x.adrelid OPERATOR(pg_catalog.=) a.attrelid AND x.adnum OPERATOR(pg_catalog.=) a.attnum \
             ) AS o ON true \
             JOIN pg_catalog.pg_sequence AS s ON s.seqrelid OPERATOR(pg_catalog.=) o.oid \
             JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) s.seqrelid \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE a.attrelid OPERATOR(pg_catalog.=) {} AND NOT a.attisdropped \
             ORDER BY a.attnum, c.relname",
            table.oid().to_u32()
        ))?;
        let sequences = rows.into_iter().map(|row| Self::read(&columns, &row));
        Ok(sequences.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// `None` where the column holds no numbers, such as texts that a number is part of.
    fn read(columns: &[TypedColumn], row: &[Option<String>]) -> Result<Option<Self>, Error> {
        let [Some(column), Some(oid), Some(name), Some(qualified), Some(increment), Some(last)] = row else {
            return Err(Error::Internal("a sequence is not described"));
        };
        let Some(of) = columns.iter().find(|known| known.name == *column).map(|known| known.of) else {
            return Err(Error::Internal("a sequence is of no column"));
        };
        let increment = number(increment)?;
        let widest = match of {
            Type::SMALLINT => i128::from(i16::MAX),
            Type::INTEGER => i128::from(i32::MAX),
            Type::BIGINT | Type::NUMERIC => i128::from(i64::MAX),
            _ => return Ok(None),
        };
        let last = number(last)?;
        Ok(Some(Self {
            oid: pg_sys::Oid::from(number(oid)? as u32),
            name: name.clone(),
            qualified: qualified.clone(),
            column: column.clone(),
            increment,
            limit: if increment > 0 { last.min(widest) } else { last.max(-widest - 1) },
        }))
    }

    /// Sets the sequence past the column's values, unless it is there already. Tells what it gives next.
    fn follow(self, table: &Table, floor: Option<i64>) -> Result<Synced, Error> {
        let state = self.state(table)?;
        let next = state.last + if state.is_called { self.increment } else { 0 };
        let direction = self.increment.signum();
        let edge =
            [state.edge, floor.map(i128::from)].into_iter().flatten().max_by_key(|edge| edge * direction);
        // Steps by which the next value has to go on to be past the edge. Whole steps: sequences with a common
        // increment may share a range of values among them.
        let behind = edge.map_or(0, |edge| ((edge - next) * direction + 1).max(0));
        let steps = (behind + self.increment.abs() - 1) / self.increment.abs();
        let after = next + steps * self.increment;
        let has_more = (self.limit - after) * direction >= 0;
        if steps > 0 {
            if !has_more {
                let edge =
                    if edge == state.edge { state.farthest } else { floor.map(|floor| floor.to_string()) };
                return Err(Error::SequenceEnds {
                    sequence: self.name,
                    column: self.column,
                    edge: edge.unwrap_or_default(),
                    limit: self.limit,
                });
            }
            spi::execute(&format!(
                "SELECT pg_catalog.setval({}::pg_catalog.oid::pg_catalog.regclass, {})",
                self.oid.to_u32(),
                after - self.increment
            ))?;
        }
        Ok((ServerText(self.column), self.oid, has_more.then_some(after as i64)))
    }

    /// Where the sequence stands, and how far the column's values have come.
    fn state(&self, table: &Table) -> Result<State, Error> {
        // A numeric column's values may be out of all bounds.
        let (farthest, rounded, bounded, bound) = if self.increment > 0 {
            ("max", "ceil", "least", "1e30")
        } else {
            ("min", "floor", "greatest", "-1e30")
        };
        let rows = spi::texts(&format!(
            "SELECT s.last_value, s.is_called::pg_catalog.int4, v.farthest, \
                    CASE WHEN v.farthest IS NOT NULL THEN {bounded}(pg_catalog.{rounded}(v.farthest), {bound}) END \
             FROM {} AS s, \
                  (SELECT CAST(pg_catalog.{farthest}({}) AS pg_catalog.numeric) AS farthest FROM {}) AS v",
            self.qualified,
            quote_identifier(&self.column),
            table.quoted_name(),
        ))?;
        let state = rows.into_iter().next().and_then(|row| <[Option<String>; 4]>::try_from(row).ok());
        let Some([Some(last), Some(is_called), farthest, edge]) = state else {
            return Err(Error::Internal("a sequence has no state"));
        };
        let edge = edge.as_deref().map(number).transpose()?;
        Ok(State { last: number(&last)?, is_called: is_called == "1", farthest, edge })
    }
}

fn number(text: &str) -> Result<i128, Error> {
    text.parse().map_err(|_| Error::Internal("a sequence's number cannot be read"))
}
