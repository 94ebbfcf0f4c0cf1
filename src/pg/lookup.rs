//! Finding tables, sequences and operators for statements that are put together.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;

use super::spi;
use super::table::{Column, Generated, KeyColumn, Kind, Table, quote_identifier};
use super::text::{Text, from_server, to_server};
use super::transition::quoted_type;
use super::types::operator_sql;
use crate::error::{ColumnFault, Error, OrRaise, TableFault};

mod c {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        // Of commands/sequence.h, which pgrx does not bind.
        pub(super) fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
    }
}

impl Table {
    /// The relation of this name in this schema.
    pub(crate) fn find(schema: &str, name: &str) -> Option<pg_sys::Oid> {
        let (schema, name) = (to_server(schema), to_server(name));
        // SAFETY: lookups in the catalogs.
        let oid = unsafe {
            let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
            if schema == pg_sys::InvalidOid {
                return None;
            }
            pg_sys::get_relname_relid(name.as_ptr(), schema)
        };
        (oid != pg_sys::InvalidOid).then_some(oid)
    }

    /// Opens a table whose rows a trigger writes, with the lock of who writes rows. Nobody is to hold up other people's
    /// tables: one that is not this owner's is opened without a lock that stays.
    pub(crate) fn open_to_write(oid: pg_sys::Oid, owner: pg_sys::Oid) -> Result<Self, Error> {
        let seen = Self::open(oid, pg_sys::AccessShareLock, false)?;
        if seen.owner() != owner {
            return Ok(seen);
        }
        Self::open(oid, pg_sys::RowExclusiveLock, true)
    }

    /// Opens a table whose rows are written, with the lock of who does that.
    pub(crate) fn open_to_write_rows(oid: pg_sys::Oid) -> Result<Self, Error> {
        Self::open(oid, pg_sys::RowExclusiveLock, true)
    }

    /// Opens a table to see what it is, without a lock that stays. Whether its rows may be read has to be asked.
    pub(crate) fn open_briefly(oid: pg_sys::Oid) -> Result<Self, Error> {
        Self::open(oid, pg_sys::AccessShareLock, false)
    }

    /// The type of the column of this number, as SQL has it, without its modifier: a cast to it cuts nothing off.
    pub(crate) fn type_of(&self, number: i16) -> String {
        quoted_type(self.attribute(number).atttypid, -1)
    }

    /// The same, with its modifier.
    pub(crate) fn whole_type_of(&self, number: i16) -> String {
        let attribute = self.attribute(number);
        quoted_type(attribute.atttypid, attribute.atttypmod)
    }

    /// Whether there is such a column of this type.
    pub(crate) fn has_column(&self, name: &str, of: pg_sys::Oid) -> bool {
        self.column(name).is_ok_and(|column| self.attribute(column.number).atttypid == of)
    }

    /// `one = two`, of a column's type, by the type's own equality.
    pub(crate) fn equality(&self, column: &Column, one: &str, two: &str) -> Result<String, Error> {
        let of = self.attribute(column.number).atttypid;
        // SAFETY: an entry of the cache lives as long as the process.
        let operator = unsafe { (*pg_sys::lookup_type_cache(of, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr };
        if operator == pg_sys::InvalidOid {
            return Err(self.fault(&column.name, ColumnFault::NoEquality));
        }
        Ok(operator_clause(one, two, of, operator))
    }

    /// `one = two`, of a key column's type, by the key's own equality.
    pub(crate) fn key_equality(&self, key: KeyColumn, one: &str, two: &str) -> String {
        operator_clause(one, two, self.attribute(key.number).atttypid, key.operator)
    }
}

impl Table {
    /// What the primary key is made of: column, type, collation and order of each part. Another key is another order.
    pub(crate) fn told_key(&self) -> Result<Vec<[u32; 4]>, Error> {
        let part = |column: KeyColumn| {
            let attribute = self.attribute(column.number);
            let (of, collation) = (attribute.atttypid.to_u32(), attribute.attcollation.to_u32());
            [column.number as u32, of, collation, column.less.to_u32()]
        };
        Ok(self.primary_key()?.into_iter().map(part).collect())
    }

    /// The columns of a key in the key's own order, for ORDER BY.
    pub(crate) fn key_order(&self, key: &[KeyColumn], of: &str) -> Result<String, Error> {
        let columns = key.iter().map(|column| {
            let name = self.quoted_column(column.number);
            Ok(format!("{of}.{name} USING {}", self.key_operator(column.less)?))
        });
        Ok(columns.collect::<Result<Vec<_>, Error>>()?.join(", "))
    }

    /// That the key of `of` is behind that with these values, of the key's types.
    pub(crate) fn key_follows(
        &self,
        key: &[KeyColumn],
        of: &str,
        values: &[String],
    ) -> Result<String, Error> {
        let columns: Vec<String> =
            key.iter().map(|column| format!("{of}.{}", self.quoted_column(column.number))).collect();
        let greater: Vec<String> =
            key.iter().map(|column| self.key_operator(column.greater)).collect::<Result<_, _>>()?;
        if greater.iter().all(|operator| *operator == greater[0]) {
            // Between rows an index finds the place at once.
            return Ok(format!("ROW({}) {} ROW({})", columns.join(", "), greater[0], values.join(", ")));
        }
        let mut clauses = Vec::new();
        for (place, column) in key.iter().enumerate() {
            let of = self.attribute(column.number).atttypid;
            let equal =
                (0..place).map(|place| self.key_equality(key[place], &columns[place], &values[place]));
            let behind = operator_clause(&columns[place], &values[place], of, column.greater);
            clauses.push(equal.chain([behind]).collect::<Vec<_>>().join(" AND "));
        }
        Ok(format!("({})", clauses.join(" OR ")))
    }

    fn key_operator(&self, operator: pg_sys::Oid) -> Result<String, Error> {
        operator_sql(operator).ok_or_else(|| self.unfit(TableFault::KeyWithoutEquality))
    }

    /// `ONLY`, where rows of tables that inherit from this one are not its own.
    pub(crate) fn only(&self) -> &'static str {
        if self.kind() == Kind::Partitioned { "" } else { "ONLY " }
    }
}

impl Table {
    /// The owner's name, quoted for SQL.
    pub(crate) fn quoted_owner(&self) -> Result<String, Error> {
        // SAFETY: returns NULL or a palloc'd string that ends with NUL.
        let name = unsafe {
            let name = pg_sys::GetUserNameFromId(self.owner(), true);
            (!name.is_null()).then(|| from_server(CStr::from_ptr(name)))
        };
        name.map(|name| quote_identifier(&name)).ok_or(Error::Internal("an owner is no role"))
    }

    /// ` COLLATE …` for a column like that of this number; empty where its type has no collations.
    pub(crate) fn collation(&self, number: i16) -> Result<String, Error> {
        let oid = self.attribute(number).attcollation;
        if oid == pg_sys::InvalidOid {
            return Ok(String::new());
        }
        let sql = format!(
            "SELECT pg_catalog.format(' COLLATE %I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.collnamespace \
             WHERE c.oid OPERATOR(pg_catalog.=) {}::pg_catalog.oid",
            oid.to_u32()
        );
        spi::strings(&sql)?.pop().ok_or(Error::Internal("a column's collation does not exist"))
    }

    /// Has another table dropped when this one is.
    pub(crate) fn take_along(&self, other: pg_sys::Oid) {
        let address = |oid| pg_sys::ObjectAddress {
            classId: pg_sys::RelationRelationId,
            objectId: oid,
            objectSubId: 0,
        };
        let auto = pg_sys::DependencyType::DEPENDENCY_AUTO;
        // SAFETY: both relations exist, and the current transaction has them locked or made.
        unsafe { pg_sys::recordDependencyOn(&address(other), &address(self.oid()), auto) };
    }

    /// Whether the other table would be dropped with this one.
    pub(crate) fn takes_along(&self, other: pg_sys::Oid) -> Result<bool, Error> {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_depend AS d \
             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
             AND d.objid OPERATOR(pg_catalog.=) {}::pg_catalog.oid \
             AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
             AND d.refobjid OPERATOR(pg_catalog.=) {}::pg_catalog.oid",
            other.to_u32(),
            self.oid().to_u32()
        );
        Ok(spi::numbers(&sql, 1)?[0] > 0)
    }
}

impl Column {
    /// Whether it is computed when it is read, so that the rows that triggers see have no value of it.
    pub(crate) fn is_virtual(&self) -> bool {
        self.generated == Generated::Virtual
    }
}

/// The number of the session's database.
pub(crate) fn current_database() -> u32 {
    // SAFETY: reads a variable of the process.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

pub(crate) fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a variable of the process.
    unsafe { pg_sys::GetUserId() }
}

/// A number of a sequence that belongs to a column, whoever asks: who may insert rows need not be allowed to use it.
pub(crate) fn next_value(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: raises an error if there is no such sequence.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| c::nextval_internal(sequence, false)) }
}

/// `one = two`, with the operator named in full and operands cast to what it takes.
fn operator_clause(one: &str, two: &str, of: pg_sys::Oid, operator: pg_sys::Oid) -> String {
    let (one, two) = (to_server(one), to_server(two));
    // SAFETY: the buffer is ours, and the operands end with NUL.
    unsafe {
        let mut buffer = pg_sys::StringInfoData::default();
        pg_sys::initStringInfo(&mut buffer);
        pg_sys::generate_operator_clause(&mut buffer, one.as_ptr(), of, operator, two.as_ptr(), of);
        from_server(CStr::from_ptr(buffer.data))
    }
}

/// A `jsonb` argument, written out.
#[derive(Debug)]
pub(crate) struct Json<'a>(Text<'a>);

impl Json<'_> {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

// SAFETY: the argument's datum is read as what the SQL declaration says, `jsonb`.
unsafe impl<'fcx> ArgAbi<'fcx> for Json<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the argument is not NULL; the output function returns a palloc'd string that ends with NUL.
        let text = unsafe { arg.unbox_arg_using_from_datum::<pg_sys::Datum>() }.map(|datum| unsafe {
            let text = pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), datum);
            Text::from_server(CStr::from_ptr(text).to_bytes().into())
        });
        Self(text.expect("is not called with NULL").or_raise())
    }
}
