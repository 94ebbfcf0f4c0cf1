//! Statements that do not embed, in a session that has loaded the library, against one that has not.

use postgres::Client;

use super::{Bench, Measurement};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement = Measurement { name: "planning", what: WHAT, run };

const WHAT: &str = "statements that do not embed, library loaded";
/// Sessions of each kind: one is a little faster than another, be they ever so alike.
const SESSIONS: usize = 12;
const BLOCKS: usize = 15;
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

/// A kind of session.
#[derive(Clone, Copy, PartialEq)]
enum Session {
    Loaded,
    Plain,
    /// As plain as the other: what differs between these two is noise.
    Control,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut owner = bench.server.connect()?;
    owner.batch_execute(OBJECTS)?;
    let (mut loaded, mut plain, mut ratios, mut noise) = (vec![], vec![], vec![], vec![]);
    let sessions_of_each = bench.rounds(SESSIONS);
    for _ in 0..sessions_of_each {
        let kinds = [Session::Plain, Session::Loaded, Session::Control];
        let mut sessions = Vec::new();
        for kind in kinds {
            sessions.push(connect(bench, kind)?);
        }
        for _ in 0..BLOCKS {
            let mut times = Vec::new();
            for session in &mut sessions {
                times.push(block(session)?);
            }
            let [without, with, control] = times[..] else { return Err("three sessions".into()) };
            plain.push(without);
            loaded.push(with);
            ratios.push(with / without);
            noise.push(control / without);
        }
    }
    owner.batch_execute("DROP TABLE planned; DROP FUNCTION planned_twice")?;
    let figures = Figures {
        ours: format!("{:.3} ms", median(&loaded)),
        reference: format!("{:.3} ms", median(&plain)),
        result: median(&ratios),
        unit: Unit::Times,
        bar: Bar::AtMost(1.05),
    };
    let notes = format!(
        "a join of three small tables with a function of the user's, planned and executed, in sessions with the \
         library loaded against sessions without; {sessions_of_each} sessions of each kind, {BLOCKS} alternating blocks of \
         {STATEMENTS} statements each; ratios of blocks from {:.2} to {:.2} (quartiles); two kinds of sessions \
         without the library differ by {:.2} × ({:.2} to {:.2})",
        quantile(&ratios, 0.25),
        quantile(&ratios, 0.75),
        median(&noise),
        quantile(&noise, 0.25),
        quantile(&noise, 0.75),
    );
    Ok(vec![Row::new(WHAT, figures, notes)])
}

fn connect(bench: &Bench, kind: Session) -> Result<Client> {
    let mut client = bench.server.connect()?;
    if kind == Session::Loaded {
        client.batch_execute("LOAD 'vector_embed'")?;
    }
    block(&mut client)?; // fills the session's caches
    Ok(client)
}

/// Milliseconds of one statement.
fn block(client: &mut Client) -> Result<f64> {
    let (time, outcome) = timed(|| (0..STATEMENTS).try_for_each(|_| client.batch_execute(STATEMENT)));
    outcome?;
    Ok(time / STATEMENTS as f64)
}
