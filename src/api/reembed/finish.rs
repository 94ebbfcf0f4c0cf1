//! The switch: the new column gets the name of the old one.

use pgrx::pg_sys;

use super::indexes::{Matched, free_name};
use super::{Old, Renewal};
use crate::api::backfill;
use crate::api::trigger::attach::{Wish, drop_queue, drop_trigger};
use crate::api::trigger::chunks::attach::{create_triggers, queue_of};
use crate::attachment::chunks::link::qualified;
use crate::attachment::fillers;
use crate::error::{Error, TableFault};
use crate::pg::spi;
use crate::pg::table::{Change, Table, quote_identifier, quote_literal};
use crate::refresh::Need;

/// What the caller puts up with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// The old column is dropped, not kept by another name.
    pub(super) drop_old: bool,
    /// What depends on the old column, views above all, stays with it.
    pub(super) keep_dependents: bool,
    /// Rows may have text and no vector of the new model.
    pub(super) allow_missing: bool,
}

pub(super) fn finish(relation: pg_sys::Oid, embedding: &str, allowed: Allowed) -> Result<(), Error> {
    // What takes time is done before anybody has to wait for the table.
    let documents = {
        let seen = Table::look_at(relation)?;
        let renewal = Renewal::find(&seen, embedding)?;
        check(&seen, &renewal, allowed)?;
        if !allowed.allow_missing {
            let rows = renewal.job.count(Need::Vector)?;
            if rows > 0 {
                return Err(
                    seen.unfit(TableFault::StillMissing { rows, column: renewal.job.embedding.clone() })
                );
            }
        }
        match Old::find(&seen, embedding)? {
            Old::Here { .. } => None,
            Old::Chunks { documents, .. } => Some(documents),
        }
    };
    // As who writes documents, whose triggers write their chunks: one after the other.
    let documents = documents.map(|documents| Table::open_to_change(documents, Change::Drop)).transpose()?;
    let table = Table::open_to_change(relation, Change::Drop)?;
    let renewal = Renewal::find(&table, embedding)?;
    check(&table, &renewal, allowed)?;
    let matched = Matched::new(&table, &renewal)?;
    let old = Old::find(&table, embedding)?;
    let renewed = renewal.drop_triggers(&table)?;
    let mut dropped = fillers(&table);
    dropped.retain(|filler| filler.embedding() == embedding);
    dropped.iter().try_for_each(|filler| drop_trigger(&table, &filler.trigger))?;
    drop_queue(&table, &dropped)?;
    let after = Switch::new(&table, &renewal, allowed)?;
    drop(table);
    after.carry_out(&matched)?;
    backfill::forget(relation, &renewal.job.embedding)?;
    let Renewal { job, timing, hash, .. } = renewal;
    match (old, documents) {
        (Old::Chunks { triggers, .. }, Some(documents)) => {
            let [column, _, schema, table, options] = triggers[0].arguments.as_slice() else {
                return Err(Error::Internal("a trigger is not as it was made"));
            };
            let queue = queue_of(&triggers);
            triggers.iter().try_for_each(|trigger| drop_trigger(&documents, trigger))?;
            let oid = documents.oid();
            drop(documents);
            let documents = Table::look_at(oid)?;
            create_triggers(
                &documents,
                table,
                &[column, &job.model, schema, table, options],
                &hash,
                queue.as_deref(),
            )
        }
        _ => {
            let table = Table::look_at(relation)?;
            let wish = Wish {
                relation,
                embedding: embedding.to_owned(),
                columns: job.columns,
                model: job.model,
                timing,
                provenance: None,
                replaces: None,
            };
            wish.check(&table)?;
            // Rows that wait for the new column's vectors go on waiting.
            wish.create(&table, &hash, &renewed)
        }
    }
}

/// Fails unless the new column can take the place of the old one.
fn check(table: &Table, renewal: &Renewal, allowed: Allowed) -> Result<(), Error> {
    if !allowed.keep_dependents {
        let dependents = dependents(table, table.column(&renewal.embedding)?.number)?;
        if !dependents.is_empty() {
            let column = renewal.embedding.clone();
            return Err(table.unfit(TableFault::Dependents { column, dependents }));
        }
    }
    Matched::new(table, renewal)?.check(table)
}

/// What depends on a column and would stay with it: views above all; not indexes, which the other has too, unless only a
/// partition has them. Of partitions and the like also what they have for themselves.
fn dependents(table: &Table, column: i16) -> Result<Vec<String>, Error> {
    let sql = format!(
        "WITH RECURSIVE s (relation) AS (SELECT {oid}::pg_catalog.oid \
         UNION SELECT h.inhrelid FROM pg_catalog.pg_inherits AS h JOIN s ON h.inhparent = s.relation), \
         f (relation, number) AS (SELECT s.relation, o.attnum FROM s JOIN pg_catalog.pg_attribute AS o \
         ON o.attrelid = s.relation AND NOT o.attisdropped AND o.attname = (SELECT p.attname \
         FROM pg_catalog.pg_attribute AS p WHERE p.attrelid = {oid} AND p.attnum = {column})) \
         SELECT DISTINCT CASE WHEN r.oid IS NULL \
         THEN pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) \
         ELSE pg_catalog.pg_describe_object('pg_catalog.pg_class'::pg_catalog.regclass, r.ev_class, 0) END \
         FROM f JOIN pg_catalog.pg_depend AS d ON d.refobjid = f.relation AND d.refobjsubid = f.number \
         LEFT JOIN pg_catalog.pg_rewrite AS r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
         AND r.oid = d.objid \
         LEFT JOIN pg_catalog.pg_class AS i ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND i.oid = d.objid AND i.relkind::pg_catalog.text = ANY ('{{i,I}}'::pg_catalog.text[]) \
         AND (f.relation = {oid} OR i.relispartition) \
         LEFT JOIN pg_catalog.pg_constraint AS c ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass \
         AND c.oid = d.objid AND (c.contype::pg_catalog.text = 'n' OR NOT c.conislocal) \
         WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.oid IS NULL AND c.oid IS NULL \
         UNION SELECT pg_catalog.concat('privileges on ', \
         pg_catalog.pg_describe_object('pg_catalog.pg_class'::pg_catalog.regclass, f.relation, f.number)) FROM f \
         JOIN pg_catalog.pg_attribute AS g ON g.attrelid = f.relation AND g.attnum = f.number \
         WHERE NOT f.relation = {oid} AND g.attacl IS NOT NULL \
         UNION SELECT pg_catalog.pg_describe_object('pg_catalog.pg_type'::pg_catalog.regclass, t.oid, 0) \
         FROM pg_catalog.pg_attribute AS g JOIN pg_catalog.pg_type AS t ON t.oid = g.atttypid \
         AND t.typtype::pg_catalog.text = 'd' WHERE g.attrelid = {oid} AND g.attnum = {column} ORDER BY 1",
        oid = table.oid().to_u32()
    );
    spi::strings(&qualified(&sql))
}

/// The constraint that makes NOT NULL quick to set.
fn constraint_name(renewal: &Renewal) -> String {
    free_name(&renewal.job.embedding, "_not_null", |_| false)
}

/// Whether the table has that constraint, and whether it is known to hold.
fn constraint(table: &Table, name: &str) -> Result<Option<bool>, Error> {
    let sql = format!(
        "SELECT c.convalidated::pg_catalog.text FROM pg_catalog.pg_constraint AS c WHERE c.conrelid = {} \
         AND c.conname = {} AND c.contype::pg_catalog.text = 'c'",
        table.oid().to_u32(),
        quote_literal(name)
    );
    Ok(spi::strings(&qualified(&sql))?.pop().map(|validated| validated == "true"))
}

/// Where the old column is NOT NULL: statements after which the new one can be in no time.
pub(super) fn not_null_statements(table: &Table, renewal: &Renewal) -> Result<Vec<String>, Error> {
    if !table.column(&renewal.embedding)?.not_null {
        return Ok(Vec::new());
    }
    let name = constraint_name(renewal);
    let (quoted, column) = (quote_identifier(&name), quote_identifier(&renewal.job.embedding));
    let alter = format!("ALTER TABLE {}", table.quoted_name());
    let add = format!("{alter} ADD CONSTRAINT {quoted} CHECK ({column} IS NOT NULL) NOT VALID");
    let validate = format!("{alter} VALIDATE CONSTRAINT {quoted}");
    Ok(match constraint(table, &name)? {
        None => vec![add, validate],
        Some(false) => vec![validate],
        Some(true) => Vec::new(),
    })
}

/// The statements of the switch.
struct Switch {
    before: Vec<String>,
    /// With the new column's name being that of the old one.
    after: Vec<String>,
    kept_name: Option<String>,
    schema: String,
}

impl Switch {
    fn new(table: &Table, renewal: &Renewal, allowed: Allowed) -> Result<Self, Error> {
        let old = table.column(&renewal.embedding)?;
        let alter = format!("ALTER TABLE {}", table.quoted_name());
        let (name, next) = (quote_identifier(&renewal.embedding), quote_identifier(&renewal.job.embedding));
        let kept_name = (!allowed.drop_old)
            .then(|| free_name(&renewal.embedding, "_old", |name| table.column(name).is_ok()));
        let mut after = Vec::new();
        let number = old.number;
        for privilege in privileges(table, number, &name)? {
            after.push(privilege);
        }
        let comment = format!("SELECT pg_catalog.col_description({}, {number})", table.oid().to_u32());
        if let Some(comment) = spi::strings(&comment)?.pop() {
            let comment = quote_literal(&comment);
            after.push(format!("COMMENT ON COLUMN {}.{name} IS {comment}", table.quoted_name()));
        }
        let mut before = Vec::new();
        if old.not_null {
            before.push(format!("{alter} ALTER COLUMN {next} SET NOT NULL"));
            before.push(format!("{alter} ALTER COLUMN {name} DROP NOT NULL"));
        }
        let check = constraint_name(renewal);
        if constraint(table, &check)?.is_some() {
            before.push(format!("{alter} DROP CONSTRAINT {}", quote_identifier(&check)));
        }
        before.push(match &kept_name {
            Some(kept) => format!("{alter} RENAME COLUMN {name} TO {}", quote_identifier(kept)),
            None => format!("{alter} DROP COLUMN {name}"),
        });
        before.push(format!("{alter} RENAME COLUMN {next} TO {name}"));
        Ok(Self { before, after, kept_name, schema: table.schema() })
    }

    fn carry_out(&self, matched: &Matched) -> Result<(), Error> {
        self.before.iter().try_for_each(|sql| spi::execute(sql))?;
        for (old, new) in &matched.pairs {
            if self.kept_name.is_some() {
                let kept = free_name(&old.name, "_old", |name| Table::find(&self.schema, name).is_some());
                let kept = quote_identifier(&kept);
                spi::execute(&format!("ALTER INDEX {} RENAME TO {kept}", old.quoted_name()))?;
            }
            let name = quote_identifier(&old.name);
            spi::execute(&format!("ALTER INDEX {} RENAME TO {name}", new.quoted_name()))?;
            if let (Some(comment), None) = (&old.comment, &new.comment) {
                let name = format!("{}.{name}", quote_identifier(&self.schema));
                spi::execute(&format!("COMMENT ON INDEX {name} IS {}", quote_literal(comment)))?;
            }
        }
        self.after.iter().try_for_each(|sql| spi::execute(sql))
    }
}

/// Statements that grant on a column of this name what is granted on the column of this number.
fn privileges(table: &Table, number: i16, name: &str) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT pg_catalog.format('GRANT %s (%s) ON %s TO %s%s', x.privilege_type, {}, {}, \
         CASE WHEN x.grantee = 0 THEN 'PUBLIC' \
         ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END, \
         CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
         FROM pg_catalog.pg_attribute AS a CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS x \
         WHERE a.attrelid = {} AND a.attnum = {number}",
        quote_literal(name),
        quote_literal(&table.quoted_name()),
        table.oid().to_u32()
    );
    spi::strings(&qualified(&sql))
}
