//! Statements that do not embed, in a session that has loaded the library, against one that has not.

use postgres::Client;

use super::{Bench, Measurement};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement = Measurement { name: "planning", what: WHAT, run };

const WHAT: &str = "statements that do not embed, library loaded";
/// Sessions of each kind.
const SESSIONS: usize = 24;
const BLOCKS: usize = 5;
const STATEMENTS: usize = 100;

/// A function of the user's own makes the hook look at the plan.
const OBJECTS: &str = "
    CREATE TABLE planned (id bigint PRIMARY KEY, parent bigint, body text);
    INSERT INTO planned SELECT i, i / 2, 'row ' || i FROM generate_series(1, 1000) AS i;
    ANALYZE planned;
    CREATE FUNCTION planned_twice(text) RETURNS text LANGUAGE sql STRICT STABLE COST 1000
        SET work_mem = '4MB' RETURN $1 || $1";
const STATEMENT: &str = "
    SELECT a.body, planned_twice(b.body), count(*) FROM planned a
        JOIN planned b ON b.id = a.parent JOIN planned c ON c.id = b.parent
    WHERE a.id = 1000 AND c.body LIKE 'row%' GROUP BY a.body, b.body ORDER BY a.body LIMIT 1";

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut owner = bench.server.connect()?;
    owner.batch_execute(OBJECTS)?;
    let (mut before, mut after, mut ratios, mut noise) = (vec![], vec![], vec![], vec![]);
    let sessions = bench.rounds(SESSIONS);
    for _ in 0..sessions {
        // One session is a third faster than another, be they ever so alike, so each is held against itself.
        let (without, with) = halves(bench, "LOAD 'vector_embed'")?;
        before.push(without);
        after.push(with);
        ratios.push(with / without);
        let (first, second) = halves(bench, "SELECT")?;
        noise.push(second / first);
    }
    owner.batch_execute("DROP TABLE planned; DROP FUNCTION planned_twice")?;
    let figures = Figures {
        ours: format!("{:.3} ms", median(&after)),
        reference: format!("{:.3} ms", median(&before)),
        result: median(&ratios),
        unit: Unit::Times,
        bar: Bar::AtMost(1.05),
    };
    let notes = format!(
        "a join of three small tables with a function of the user's, planned and executed, in {sessions} sessions after \
         `LOAD 'vector_embed'` against the same sessions before; the median of {BLOCKS} blocks of {STATEMENTS} statements \
         each; ratios of sessions from {:.2} to {:.2} (quartiles); sessions that load nothing in between differ by \
         {:.2} × ({:.2} to {:.2})",
        quantile(&ratios, 0.25),
        quantile(&ratios, 0.75),
        median(&noise),
        quantile(&noise, 0.25),
        quantile(&noise, 0.75),
    );
    Ok(vec![Row::new(WHAT, figures, notes)])
}

/// Milliseconds of a statement in a new session before `change` and after it.
fn halves(bench: &Bench, change: &str) -> Result<(f64, f64)> {
    let mut client = bench.server.connect()?;
    let before = half(&mut client)?;
    client.batch_execute(change)?;
    Ok((before, half(&mut client)?))
}

fn half(client: &mut Client) -> Result<f64> {
    block(client)?; // fills the session's caches
    let times = (0..BLOCKS).map(|_| block(client)).collect::<Result<Vec<f64>>>()?;
    Ok(median(&times))
}

/// Milliseconds of one statement.
fn block(client: &mut Client) -> Result<f64> {
    let (time, outcome) = timed(|| (0..STATEMENTS).try_for_each(|_| client.batch_execute(STATEMENT)));
    outcome?;
    Ok(time / STATEMENTS as f64)
}
