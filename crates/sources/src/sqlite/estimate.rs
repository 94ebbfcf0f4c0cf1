//! How many rows a table has, without counting them all.
//!
//! A table is a tree of pages. The first few hundred pages in order are looked at by `dbstat`: the root, the leftmost
//! page of each level, and leaves. How many children the inner pages have and how many rows the leaves tells about
//! how many rows there are, however sparse their rowids.

use rusqlite::types::ValueRef;

use super::file::Database;
use super::schema::Relation;
use crate::scan::Estimate;
use crate::table::Kind;

/// Pages that are looked at.
const SAMPLE_PAGES: u32 = 400;
/// What a view gives is not known before it is run.
const VIEW_ROWS: f64 = 1000.0;

pub(super) fn estimate(database: &Database, relation: &Relation) -> rusqlite::Result<Estimate> {
    if relation.kind == Kind::View {
        return Ok(Estimate { rows: VIEW_ROWS, pages: VIEW_ROWS / 10.0 });
    }
    let connection = database.connection();
    let mut statement = connection.prepare(&format!(
        "SELECT path, pagetype, ncell, pgsize FROM dbstat WHERE name = ?1 LIMIT {SAMPLE_PAGES}"
    ))?;
    let mut rows = statement.query([&relation.name])?;
    // By depth: pages, and their cells.
    let mut inner: Vec<(f64, f64)> = Vec::new();
    let (mut leaves, mut cells, mut seen, mut bytes) = (0.0, 0.0, 0, 0.0);
    while let Some(row) = rows.next()? {
        seen += 1;
        bytes += row.get::<_, f64>(3)?;
        let depth = match row.get_ref(0)? {
            ValueRef::Text(path) => path.iter().filter(|byte| **byte == b'/').count() - 1,
            _ => 0,
        };
        let count: f64 = row.get(2)?;
        match row.get_ref(1)? {
            ValueRef::Text(b"internal") => {
                inner.resize(inner.len().max(depth + 1), (0.0, 0.0));
                inner[depth].0 += 1.0;
                inner[depth].1 += count + 1.0;
            }
            ValueRef::Text(b"leaf") => {
                leaves += 1.0;
                cells += count;
            }
            _ => {}
        }
    }
    let pages_seen = f64::from(seen);
    let page_bytes = if seen > 0 { bytes / pages_seen } else { 4096.0 };
    if seen < SAMPLE_PAGES {
        return Ok(Estimate { rows: cells, pages: pages_seen * page_bytes / 8192.0 });
    }
    let leaf_pages = inner.iter().fold(1.0, |pages, (count, children)| pages * children / count.max(1.0));
    let (rows, pages) = if leaves > 0.0 {
        (leaf_pages * cells / leaves, leaf_pages * pages_seen / leaves)
    } else {
        (leaf_pages, leaf_pages)
    };
    Ok(Estimate { rows, pages: pages * page_bytes / 8192.0 })
}
