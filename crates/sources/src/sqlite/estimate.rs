//! How many rows a table has, without counting them all.
//!
//! A table is a tree of pages. The first few hundred pages in order are looked at by `dbstat`: the root, the leftmost
//! page of each level, and leaves. How many children the inner pages have and how many rows the leaves tells about
//! how many rows there are, however sparse their rowids. Where later rows are longer or shorter than the first, a leaf
//! has fewer or more of them; so some rows from all over the table are measured.

use rusqlite::types::ValueRef;

use super::file::{Database, Failure, classify};
use super::schema::{Key, Relation, quote};
use crate::scan::Estimate;

/// Pages that are looked at.
const SAMPLE_PAGES: u32 = 400;
/// Places all over a table, and rows that are measured at each.
const PLACES: i64 = 20;
const ROWS_AT_PLACE: u32 = 10;
/// Of a view, or of a table that cannot be looked at, nothing is known before it is read.
pub(super) const UNKNOWN: Estimate = Estimate { rows: 1000.0, pages: 100.0 };
/// Bytes that a row takes on its page beside its values.
const ROW_OVERHEAD: f64 = 8.0;

/// What has been seen of a table's pages.
#[derive(Default)]
struct Sample {
    pages: f64,
    page_bytes: f64,
    /// Pages and their children, by depth.
    inner: Vec<(f64, f64)>,
    leaves: f64,
    rows: f64,
    /// Bytes of rows on leaves.
    payload: f64,
}

pub(super) fn estimate(database: &Database, relation: &Relation) -> rusqlite::Result<Estimate> {
    if relation.is_view {
        return Ok(UNKNOWN);
    }
    let sample = sample(database, relation)?;
    let to_pages = |pages: f64| pages * sample.page_bytes / sample.pages.max(1.0) / 8192.0;
    if sample.pages < f64::from(SAMPLE_PAGES) {
        return Ok(Estimate { rows: sample.rows, pages: to_pages(sample.pages) });
    }
    let leaves = sample.inner.iter().fold(1.0, |pages, (count, children)| pages * children / count.max(1.0));
    let rows_on_leaf = sample.rows / sample.leaves.max(1.0);
    let seen = sample.payload / sample.rows.max(1.0) + ROW_OVERHEAD;
    let bytes = match bytes_all_over(database, relation, sample.page_bytes / sample.pages) {
        Err(error) if classify(&error) == Failure::Interrupted => return Err(error),
        // What cannot be measured is no reason not to read it.
        bytes => bytes.ok().flatten(),
    };
    let rows = leaves * rows_on_leaf * bytes.map_or(1.0, |bytes| seen / bytes);
    Ok(Estimate {
        rows: rows.max(sample.rows),
        pages: to_pages(leaves * sample.pages / sample.leaves.max(1.0)),
    })
}

fn sample(database: &Database, relation: &Relation) -> rusqlite::Result<Sample> {
    let mut sample = Sample::default();
    let mut statement = database.connection().prepare(&format!(
        "SELECT path, pagetype, ncell, pgsize, payload FROM dbstat WHERE name = ?1 LIMIT {SAMPLE_PAGES}"
    ))?;
    let mut rows = statement.query([&relation.name])?;
    while let Some(row) = rows.next()? {
        sample.pages += 1.0;
        sample.page_bytes += row.get::<_, f64>(3)?;
        let cells: f64 = row.get(2)?;
        match (row.get_ref(1)?, row.get_ref(0)?) {
            (ValueRef::Text(b"internal"), ValueRef::Text(path)) => {
                let depth = path.iter().filter(|byte| **byte == b'/').count();
                sample.inner.resize(sample.inner.len().max(depth), (0.0, 0.0));
                if let Some((count, children)) = sample.inner.get_mut(depth.saturating_sub(1)) {
                    *count += 1.0;
                    *children += cells + 1.0;
                }
            }
            (ValueRef::Text(b"leaf"), _) => {
                sample.leaves += 1.0;
                sample.rows += cells;
                sample.payload += row.get::<_, f64>(4)?;
            }
            _ => {}
        }
    }
    Ok(sample)
}

/// Bytes that a row takes on its page, by rows from all over the table; `None` if it has no rowid to look them up by.
fn bytes_all_over(
    database: &Database,
    relation: &Relation,
    page_bytes: f64,
) -> rusqlite::Result<Option<f64>> {
    let Key::Rowid(rowid) = &relation.key else { return Ok(None) };
    let lengths =
        relation.columns.iter().map(|column| format!("coalesce(octet_length({}), 0)", quote(&column.name)));
    let lengths = lengths.collect::<Vec<_>>();
    let table = quote(&relation.name);
    // Each row has a length of each column; what does not fit on the page goes to others, but for a part.
    let bytes = format!(
        "SELECT avg(CASE WHEN bytes < {page_bytes} THEN bytes ELSE {page_bytes} / 4 END) FROM \
         (SELECT {} + {} AS bytes FROM {table} WHERE {rowid} >= ?1 ORDER BY {rowid} LIMIT {ROWS_AT_PLACE})",
        relation.columns.len(),
        lengths.join(" + ")
    );
    let connection = database.connection();
    let ends = |end: &str| -> rusqlite::Result<Option<i64>> {
        connection.query_row(&format!("SELECT {end}({rowid}) FROM {table}"), [], |row| row.get(0))
    };
    let (Some(first), Some(last)) = (ends("min")?, ends("max")?) else { return Ok(None) };
    let mut statement = connection.prepare(&bytes)?;
    let width = i128::from(last) - i128::from(first);
    let (mut sum, mut count) = (0.0, 0.0);
    for place in 0..PLACES {
        let from = i128::from(first) + width * i128::from(place) / i128::from(PLACES);
        let bytes: Option<f64> = statement.query_row([from as i64], |row| row.get(0))?;
        if let Some(bytes) = bytes {
            sum += bytes + ROW_OVERHEAD;
            count += 1.0;
        }
    }
    Ok((count > 0.0).then(|| sum / count))
}
