//! A table's definition, as far as its vectors depend on it.

use std::ffi::{CStr, CString};
use std::ptr::null_mut;

use pgrx::pg_sys;

use super::message::Watch;
use super::text::{from_server, to_server};
use super::types::{Type, VectorKind, is_not_null_domain, vector_kind};
use crate::error::{ColumnFault, Error, TableFault};

mod c {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        // Of catalog/pg_inherits.h, which pgrx does not bind.
        pub(super) fn has_superclass(relation: pg_sys::Oid) -> bool;
    }
}

/// An open relation, locked for as long as this value is used.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) relation: pg_sys::Relation,
    /// If opened by this value, the lock that it gives back.
    opened: Option<u32>,
}

/// What is to be done to a table's triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    /// Some are dropped.
    Drop,
}

impl Change {
    /// The lock that CREATE TRIGGER or DROP TRIGGER takes. Taken at once: to take the stronger later is to deadlock
    /// with who reads and then wants to write.
    fn lock(self) -> u32 {
        match self {
            Self::Add => pg_sys::ShareRowExclusiveLock,
            Self::Drop => pg_sys::AccessExclusiveLock,
        }
    }
}

/// How long a table's rows last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    Permanent,
    /// Until a crash.
    Unlogged,
    /// As long as the session, which alone sees them.
    Temporary,
}

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ordinary,
    Partitioned,
    Foreign,
    /// A view, an index, a sequence, …
    Other,
}

/// What the system catalogs say of a column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) number: i16,
    pub(crate) not_null: bool,
    type_oid: pg_sys::Oid,
    /// The type below domains, and its modifier.
    base_type: pg_sys::Oid,
    modifier: i32,
    pub(super) generated: Generated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generated {
    No,
    Stored,
    Virtual,
}

/// A column whose text can be read from a [`super::row::Row`] of its table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextColumn {
    pub(crate) number: i16,
    pub(crate) kind: TextKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKind {
    /// Stored as the text itself: `text`, `varchar`, `citext`, `json`.
    Plain,
    /// `char(n)`, whose trailing blanks mean nothing.
    Padded,
    /// `jsonb`, written out.
    Jsonb,
}

/// A column of pgvector's `vector` or `halfvec`, or of a domain over one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VectorColumn {
    pub(crate) number: i16,
    pub(crate) kind: VectorKind,
    /// What the column's type asks for; `None` takes any.
    pub(crate) dimensions: Option<usize>,
    pub(crate) type_oid: pg_sys::Oid,
    pub(crate) base_type: pg_sys::Oid,
    pub(crate) is_domain: bool,
}

/// When generated columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the row is stored: they have no values yet.
    Before,
    /// Afterwards: stored ones have.
    After,
}

impl Table {
    /// A relation that somebody else keeps open.
    ///
    /// # Safety
    ///
    /// `relation` must be open for as long as the value is used.
    pub(super) unsafe fn borrowed(relation: pg_sys::Relation) -> Self {
        Self { relation, opened: None }
    }

    /// Opens a relation of the caller's so that neither its definition nor its triggers change until the transaction
    /// ends: with the lock that is needed.
    pub(crate) fn open_to_change(oid: pg_sys::Oid, change: Change) -> Result<Self, Error> {
        // Before the lock: nobody may hold up other people's tables. And afterwards: now it is sure.
        check_owner(oid);
        let table = Self::open(oid, change.lock(), true)?;
        check_owner(oid);
        Ok(table)
    }

    /// Opens a relation of the caller's to look at its triggers, without a lock that stays.
    pub(crate) fn look_at(oid: pg_sys::Oid) -> Result<Self, Error> {
        check_owner(oid);
        Self::open(oid, pg_sys::AccessShareLock, false)
    }

    /// Opens a relation whose rows the caller may read, without a lock that stays.
    pub(crate) fn open_to_read(oid: pg_sys::Oid) -> Result<Self, Error> {
        check_select(oid);
        Self::open(oid, pg_sys::AccessShareLock, false)
    }

    pub(super) fn open(oid: pg_sys::Oid, lock: u32, keep_lock: bool) -> Result<Self, Error> {
        // SAFETY: gives NULL if there is no such relation.
        let relation = unsafe { pg_sys::try_relation_open(oid, lock as pg_sys::LOCKMODE) };
        if relation.is_null() {
            return Err(Error::NoRelation(oid.to_u32()));
        }
        Ok(Self { relation, opened: Some(if keep_lock { pg_sys::NoLock } else { lock }) })
    }

    pub(crate) fn oid(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*self.relation).rd_id }
    }

    pub(crate) fn owner(&self) -> pg_sys::Oid {
        self.form().relowner
    }

    pub(crate) fn name(&self) -> String {
        // SAFETY: a name ends with NUL.
        from_server(unsafe { CStr::from_ptr(self.form().relname.data.as_ptr()) })
    }

    /// The name of its schema.
    pub(crate) fn schema(&self) -> String {
        // SAFETY: the relation is open, so its schema exists; the name ends with NUL.
        from_server(unsafe { CStr::from_ptr(pg_sys::get_namespace_name(self.form().relnamespace)) })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.form().relkind as u8 {
            pg_sys::RELKIND_RELATION => Kind::Ordinary,
            pg_sys::RELKIND_PARTITIONED_TABLE => Kind::Partitioned,
            pg_sys::RELKIND_FOREIGN_TABLE => Kind::Foreign,
            _ => Kind::Other,
        }
    }

    pub(crate) fn persistence(&self) -> Persistence {
        match self.form().relpersistence as u8 {
            pg_sys::RELPERSISTENCE_TEMP => Persistence::Temporary,
            pg_sys::RELPERSISTENCE_UNLOGGED => Persistence::Unlogged,
            _ => Persistence::Permanent,
        }
    }

    /// Whether it is a partition or inherits from another table, whose statements reach its rows and not its triggers.
    pub(crate) fn has_parent(&self) -> bool {
        // SAFETY: reads a catalog.
        self.form().relispartition
            || unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| c::has_superclass(self.oid())) }
    }

    /// Its name with its schema, quoted for SQL.
    pub(crate) fn quoted_name(&self) -> String {
        // SAFETY: the relation is open, so its schema exists; both functions return strings that end with NUL.
        unsafe {
            let schema = pg_sys::get_namespace_name(self.form().relnamespace);
            let name = self.form().relname.data.as_ptr();
            from_server(CStr::from_ptr(pg_sys::quote_qualified_identifier(schema, name)))
        }
    }

    /// Whether the current user may read every row.
    pub(crate) fn may_be_read(&self) -> bool {
        // SAFETY: the relation is open.
        unsafe {
            let user = pg_sys::GetUserId();
            let mode = pg_sys::ACL_SELECT as pg_sys::AclMode;
            pg_sys::pg_class_aclcheck(self.oid(), user, mode) == pg_sys::AclResult::ACLCHECK_OK
                && !self.hides_rows()
        }
    }

    /// The column of this name.
    pub(crate) fn column(&self, name: &str) -> Result<Column, Error> {
        let found = self.attributes().into_iter().find(|attribute| {
            // SAFETY: a name ends with NUL.
            !attribute.attisdropped
                && from_server(unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }) == name
        });
        let attribute = found.ok_or_else(|| self.fault(name, ColumnFault::Missing))?;
        let mut modifier = attribute.atttypmod;
        // SAFETY: the type of a column exists.
        let (base_type, domain_not_null) = unsafe {
            let base = pg_sys::getBaseTypeAndTypmod(attribute.atttypid, &mut modifier);
            (base, base != attribute.atttypid && is_not_null_domain(attribute.atttypid))
        };
        Ok(Column {
            name: name.to_owned(),
            number: attribute.attnum,
            not_null: attribute.attnotnull || domain_not_null,
            type_oid: attribute.atttypid,
            base_type,
            modifier,
            generated: match attribute.attgenerated as u8 {
                0 => Generated::No,
                pg_sys::ATTRIBUTE_GENERATED_STORED => Generated::Stored,
                _ => Generated::Virtual,
            },
        })
    }

    /// The column as one whose text is embedded.
    pub(crate) fn text_column(&self, column: &Column, moment: Moment) -> Result<TextColumn, Error> {
        match column.generated {
            Generated::No => {}
            Generated::Stored if moment == Moment::After => {}
            generated => {
                let stored = generated == Generated::Stored;
                return Err(self.fault(&column.name, ColumnFault::GeneratedSource { stored }));
            }
        }
        let kind = match column.base_type {
            pg_sys::BPCHAROID => TextKind::Padded,
            pg_sys::JSONBOID => TextKind::Jsonb,
            pg_sys::JSONOID => TextKind::Plain,
            // SAFETY: both types exist. True for citext, which is stored as text is.
            other if unsafe { pg_sys::IsBinaryCoercible(other, pg_sys::TEXTOID) } => TextKind::Plain,
            _ => {
                return Err(
                    self.fault(&column.name, ColumnFault::NoText { of: Type(column.type_oid).name() })
                );
            }
        };
        Ok(TextColumn { number: column.number, kind })
    }

    /// The column as one that keeps a model's hash: its number.
    pub(crate) fn hash_column(&self, column: &Column) -> Result<i16, Error> {
        const DIGITS: i32 = 64;
        let header = pg_sys::VARHDRSZ as i32;
        let is_text = match column.type_oid {
            pg_sys::TEXTOID => true,
            pg_sys::VARCHAROID => column.modifier < 0 || column.modifier - header >= DIGITS,
            _ => false,
        };
        if is_text && column.generated == Generated::No {
            Ok(column.number)
        } else {
            Err(self.fault(&column.name, ColumnFault::NoHash { of: Type(column.type_oid).name() }))
        }
    }

    /// The column as one that takes vectors.
    pub(crate) fn vector_column(&self, column: &Column) -> Result<VectorColumn, Error> {
        if column.generated != Generated::No {
            return Err(self.fault(&column.name, ColumnFault::GeneratedVector));
        }
        let Some(kind) = vector_kind(column.base_type) else {
            return Err(self.fault(&column.name, ColumnFault::NoVector { of: Type(column.type_oid).name() }));
        };
        Ok(VectorColumn {
            number: column.number,
            kind,
            dimensions: usize::try_from(column.modifier).ok(),
            type_oid: column.type_oid,
            base_type: column.base_type,
            is_domain: column.base_type != column.type_oid,
        })
    }

    /// An error about one of the table's columns.
    pub(crate) fn fault(&self, column: &str, fault: ColumnFault) -> Error {
        Error::Column { column: column.to_owned(), table: self.name(), fault }
    }

    /// An error about the table.
    pub(crate) fn unfit(&self, fault: TableFault) -> Error {
        Error::Table { table: self.name(), fault }
    }

    /// The columns of the primary key, each with the operator that compares it.
    pub(crate) fn primary_key(&self) -> Result<Vec<KeyColumn>, Error> {
        // SAFETY: the relation is open, and its indexes exist as long as it is.
        unsafe {
            let list = pg_sys::RelationGetIndexList(self.relation);
            let indexes: Vec<pg_sys::Oid> =
                (0..pg_sys::list_length(list)).map(|i| pg_sys::list_nth_oid(list, i)).collect();
            pg_sys::list_free(list);
            // Not what the relation itself says: it leaves out keys that are deferrable.
            for oid in indexes {
                let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
                let form = (*index).rd_index;
                let key = ((*form).indisprimary && (*form).indisvalid).then(|| key_columns(index));
                // Others number their strategies in their own way. PostgreSQL 18 has them, for periods of time.
                let is_btree = (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID;
                pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
                match key {
                    Some(key) if is_btree => return Ok(key),
                    Some(_) => return Err(self.unfit(TableFault::KeyWithoutEquality)),
                    None => {}
                }
            }
            Err(self.unfit(TableFault::NoPrimaryKey))
        }
    }

    pub(super) fn form(&self) -> &pg_sys::FormData_pg_class {
        // SAFETY: an open relation has its form.
        unsafe { &*(*self.relation).rd_rel }
    }

    pub(super) fn attributes(&self) -> Vec<pg_sys::FormData_pg_attribute> {
        // SAFETY: the descriptor lives as long as the relation is open, and is only read.
        let descriptor = unsafe { pgrx::PgTupleDesc::from_pg_unchecked((*self.relation).rd_att) };
        (0..descriptor.len()).filter_map(|i| descriptor.get(i).copied()).collect()
    }

    /// The definition of the column of this number.
    pub(super) fn attribute(&self, number: i16) -> pg_sys::FormData_pg_attribute {
        self.attributes()[number as usize - 1]
    }

    /// The name of the column of this number.
    pub(crate) fn column_name(&self, number: i16) -> String {
        // SAFETY: a name ends with NUL.
        from_server(unsafe { CStr::from_ptr(self.attribute(number).attname.data.as_ptr()) })
    }

    /// The same, quoted for SQL.
    pub(crate) fn quoted_column(&self, number: i16) -> String {
        quote_identifier(&self.column_name(number))
    }

    /// The columns' descriptor.
    pub(super) fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: an open relation has its descriptor.
        unsafe { (*self.relation).rd_att }
    }
}

impl VectorColumn {
    /// pgvector's `vector`, of the extension that the column's type is of.
    pub(crate) fn vector_type(self) -> pg_sys::Oid {
        // SAFETY: the type of a column exists.
        unsafe { super::row::vector_type_beside(self.base_type) }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(lock) = self.opened {
            // SAFETY: opened by this value.
            unsafe { pg_sys::relation_close(self.relation, lock as pg_sys::LOCKMODE) };
        }
    }
}

/// A column of a primary key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyColumn {
    pub(crate) number: i16,
    /// The key's own equality.
    pub(super) operator: pg_sys::Oid,
    /// Its own order: what is before, and what is behind another value.
    pub(super) less: pg_sys::Oid,
    pub(super) greater: pg_sys::Oid,
}

/// The columns of an index and their equality.
///
/// # Safety
///
/// The index must be open.
unsafe fn key_columns(index: pg_sys::Relation) -> Vec<KeyColumn> {
    // SAFETY: an index has as many columns, families and input types as its form says.
    unsafe {
        let form = (*index).rd_index;
        let count = (*form).indnkeyatts as usize;
        let numbers = std::slice::from_raw_parts((*form).indkey.values.as_ptr(), count);
        let column = |place: usize| {
            let (family, input) = (*(*index).rd_opfamily.add(place), *(*index).rd_opcintype.add(place));
            let member = |strategy: u32| pg_sys::get_opfamily_member(family, input, input, strategy as i16);
            KeyColumn {
                number: numbers[place],
                operator: member(pg_sys::BTEqualStrategyNumber),
                less: member(pg_sys::BTLessStrategyNumber),
                greater: member(pg_sys::BTGreaterStrategyNumber),
            }
        };
        (0..count).map(column).collect()
    }
}

/// An identifier, quoted for SQL where it has to be.
pub(crate) fn quote_identifier(name: &str) -> String {
    let name: CString = to_server(name);
    // SAFETY: returns its argument or a palloc'd string, both ending with NUL.
    from_server(unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())) })
}

/// A string, quoted for SQL.
pub(crate) fn quote_literal(text: &str) -> String {
    let text = to_server(text);
    // SAFETY: returns a palloc'd string that ends with NUL.
    from_server(unsafe { CStr::from_ptr(pg_sys::quote_literal_cstr(text.as_ptr())) })
}

/// A relation's name, for errors.
pub(crate) fn relation_name(oid: pg_sys::Oid) -> String {
    // SAFETY: returns NULL or a palloc'd string that ends with NUL.
    unsafe {
        let name = pg_sys::get_rel_name(oid);
        if name.is_null() { oid.to_u32().to_string() } else { from_server(CStr::from_ptr(name)) }
    }
}

/// Raises PostgreSQL's own error unless the caller owns the relation.
fn check_owner(oid: pg_sys::Oid) {
    // SAFETY: lookups in the catalogs; a relation that is gone has no name, and opening it is the error then.
    unsafe {
        let user = pg_sys::GetUserId();
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let owned = pg_sys::pg_class_ownercheck(oid, user);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let owned = pg_sys::object_ownercheck(pg_sys::RelationRelationId, oid, user);
        let name = if owned { null_mut() } else { pg_sys::get_rel_name(oid) };
        if !name.is_null() {
            let kind = pg_sys::get_relkind_objtype(pg_sys::get_rel_relkind(oid));
            let _watch = Watch::new();
            pg_sys::aclcheck_error(pg_sys::AclResult::ACLCHECK_NOT_OWNER, kind, name);
        }
    }
}

/// Raises PostgreSQL's own error unless the caller may read the relation.
fn check_select(oid: pg_sys::Oid) {
    // SAFETY: lookups in the catalogs; a relation that is gone has no name, and opening it is the error then.
    unsafe {
        let name = pg_sys::get_rel_name(oid);
        if name.is_null() {
            return;
        }
        let result =
            pg_sys::pg_class_aclcheck(oid, pg_sys::GetUserId(), pg_sys::ACL_SELECT as pg_sys::AclMode);
        if result != pg_sys::AclResult::ACLCHECK_OK {
            let kind = pg_sys::get_relkind_objtype(pg_sys::get_rel_relkind(oid));
            let _watch = Watch::new();
            pg_sys::aclcheck_error(result, kind, name);
        }
    }
}
