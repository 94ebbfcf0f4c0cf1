//! Rows under way: points of a collection, or the collections.

use std::collections::VecDeque;

use super::collection::{Collection, Field};
use super::point::{Point, PointId, Scratch};
use crate::error::{BadValue, Error, Problem};
use crate::losses::Losses;
use crate::scan::{Comparison, OnError, Operand, Operation, Rows, Scan};
use crate::value::{Type, Value};

/// What is wanted of a collection's points.
pub(super) struct Wanted {
    pub(super) payload: bool,
    /// Names of vectors; the only one may have none.
    pub(super) vectors: Vec<String>,
    /// Points to ask a server for at once.
    pub(super) fetch_size: u32,
}

/// Where points come from.
pub(super) trait Points {
    /// Fetches some more. Points that cannot be read come as errors. False: there are none after these. What was fetched
    /// before an error is there, too.
    fn fetch(&mut self, into: &mut VecDeque<Result<Point, Error>>) -> Result<bool, Error>;

    /// Begins anew: with points of these ids, or all.
    fn restart(&mut self, ids: Option<Vec<PointId>>) -> Result<(), Error>;
}

/// Points of a collection.
pub(super) struct PointRows {
    points: Box<dyn Points>,
    scan: Scan,
    fields: Vec<Field>,
    fetched: VecDeque<Result<Point, Error>>,
    more: bool,
    current: Option<Point>,
    given: u64,
    scratch: Scratch,
    losses: Losses,
    interrupted: fn() -> bool,
}

impl PointRows {
    pub(super) fn open(
        points: Box<dyn Points>,
        collection: &Collection,
        scan: &Scan,
        place: &str,
        interrupted: fn() -> bool,
    ) -> Result<Self, Error> {
        let mut rows = Self {
            points,
            scan: scan.clone(),
            fields: fields(collection, scan, place)?,
            fetched: VecDeque::new(),
            more: true,
            current: None,
            given: 0,
            scratch: Scratch::default(),
            losses: Losses::default(),
            interrupted,
        };
        rows.rescan(&scan.operands)?;
        Ok(rows)
    }
}

/// What a scan's columns are.
pub(super) fn fields(collection: &Collection, scan: &Scan, place: &str) -> Result<Vec<Field>, Error> {
    let known = collection.columns();
    let field =
        |(name, of): &(String, Type)| {
            let found = known.iter().find(|(column, _)| column.name == *name).ok_or_else(|| {
                Error::NoColumn { column: name.clone(), table: scan.table.clone(), place: place.to_owned() }
            })?;
            if !found.1.takes(*of) {
                return Err(wrong_type(name, &scan.table, *of, found.0.of));
            }
            Ok(found.1.clone())
        };
    scan.columns.iter().map(field).collect()
}

fn wrong_type(column: &str, table: &str, wanted: Type, of: Type) -> Error {
    Error::Type {
        column: column.to_owned(),
        table: table.to_owned(),
        wanted: wanted.to_string(),
        hint: Some(format!("Declare it as {of}.")),
    }
}

/// The ids that satisfy all filters, which are on the id; `None`: all. Filters without operand do not restrict.
fn wanted_ids(scan: &Scan) -> Option<Vec<PointId>> {
    let mut wanted: Option<Vec<PointId>> = None;
    for (filter, operand) in scan.filters.iter().zip(&scan.operands) {
        let ids = match (filter.operation, operand) {
            (Operation::Compare(Comparison::Equal), operand) => ids_of(std::slice::from_ref(operand)),
            (Operation::In, Operand::Several(several)) => ids_of(several),
            (Operation::In, Operand::Null) => Vec::new(),
            _ => continue,
        };
        wanted = Some(match wanted {
            Some(before) => before.into_iter().filter(|id| ids.contains(id)).collect(),
            None => ids,
        });
    }
    wanted
}

fn ids_of(operands: &[Operand]) -> Vec<PointId> {
    let mut seen = std::collections::HashSet::new();
    let id = |operand: &Operand| match operand {
        Operand::Text(text) => PointId::of_text(text),
        Operand::Integer(number) => u64::try_from(*number).ok().map(PointId::Number),
        _ => None,
    };
    operands.iter().filter_map(id).filter(|id| seen.insert(id.clone())).collect()
}

impl Rows for PointRows {
    fn next(&mut self) -> Result<bool, Error> {
        self.current = None;
        if self.scan.limit.is_some_and(|limit| self.given >= limit) {
            return Ok(false);
        }
        loop {
            if (self.interrupted)() {
                return Err(Error::Interrupted);
            }
            match self.fetched.pop_front() {
                Some(Ok(point)) => {
                    self.current = Some(point);
                    self.given += 1;
                    return Ok(true);
                }
                Some(Err(error)) if self.scan.on_error == OnError::Null => self.losses.rows(1, error),
                Some(Err(error)) => return Err(error),
                None if self.more => match self.points.fetch(&mut self.fetched) {
                    // What was found before the damage is given; what lies behind it cannot be counted.
                    Err(error @ Error::Damaged { .. }) if self.scan.on_error == OnError::Null => {
                        self.more = false;
                        self.losses.incomplete(error);
                    }
                    more => self.more = more?,
                },
                None => return Ok(false),
            }
        }
    }

    fn value(&mut self, column: usize) -> Result<Value<'_>, Error> {
        let Some(point) = &self.current else { return Ok(Value::Null) };
        let (name, of) = &self.scan.columns[column];
        let field = &self.fields[column];
        match point.value(field, *of, &mut self.scratch) {
            Ok(value) => Ok(value),
            Err(problem) => {
                let error = Error::Value(Box::new(BadValue {
                    table: self.scan.table.clone(),
                    row: format!("id {}", point.id),
                    column: name.clone(),
                    wanted: of.to_string(),
                    value: point.tell(field),
                    problem,
                }));
                self.losses.null(error, self.scan.on_error)
            }
        }
    }

    fn row_name(&self) -> String {
        self.current.as_ref().map(|point| format!("id {}", point.id)).unwrap_or_default()
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }

    fn losses_mut(&mut self) -> &mut Losses {
        &mut self.losses
    }

    fn rescan(&mut self, operands: &[Operand]) -> Result<(), Error> {
        self.scan.operands = operands.to_vec();
        self.fetched.clear();
        self.current = None;
        self.more = true;
        self.given = 0;
        self.points.restart(wanted_ids(&self.scan))
    }
}

/// Columns of the table of collections.
pub(super) const CATALOG: [(&str, Type, bool); 7] = [
    ("name", Type::Text, true),
    ("status", Type::Text, false),
    ("points", Type::Bigint, false),
    ("dimensions", Type::Bigint, false),
    ("distance", Type::Text, false),
    ("vectors", Type::Jsonb, true),
    ("sparse_vectors", Type::Jsonb, true),
];

/// The collections.
pub(super) struct CollectionRows {
    columns: Vec<(usize, Type)>,
    collections: Vec<Collection>,
    /// One more than that of the current row.
    at: usize,
    scratch: String,
    losses: Losses,
}

impl CollectionRows {
    pub(super) fn open(collections: Vec<Collection>, scan: &Scan, place: &str) -> Result<Self, Error> {
        let column = |(name, of): &(String, Type)| {
            let at = CATALOG.iter().position(|(known, ..)| known == name).ok_or_else(|| Error::NoColumn {
                column: name.clone(),
                table: scan.table.clone(),
                place: place.to_owned(),
            })?;
            let known = CATALOG[at].1;
            let fits = match known {
                Type::Jsonb => matches!(of, Type::Json | Type::Jsonb),
                known => known == *of,
            };
            if fits { Ok((at, *of)) } else { Err(wrong_type(name, &scan.table, *of, known)) }
        };
        let columns = scan.columns.iter().map(column).collect::<Result<_, _>>()?;
        Ok(Self { columns, collections, at: 0, scratch: String::new(), losses: Losses::default() })
    }
}

impl Rows for CollectionRows {
    fn next(&mut self) -> Result<bool, Error> {
        self.at += 1;
        Ok(self.at <= self.collections.len())
    }

    fn value(&mut self, column: usize) -> Result<Value<'_>, Error> {
        let collection = &self.collections[self.at - 1];
        let (field, of) = self.columns[column];
        let json = match field {
            0 => return Ok(Value::Text(&collection.name)),
            1 => return Ok(collection.status.as_deref().map_or(Value::Null, Value::Text)),
            2 | 3 => {
                let number = if field == 2 { collection.points } else { collection.dimensions() };
                let Some(number) = number else { return Ok(Value::Null) };
                let number = i64::try_from(number).map_err(|_| self.beyond(number, CATALOG[field].0, of))?;
                return Ok(Value::Integer(number));
            }
            4 => return Ok(collection.distance().map_or(Value::Null, Value::Text)),
            5 => match &collection.told_vectors {
                serde_json::Value::Null => "{}".to_owned(),
                told => told.to_string(),
            },
            _ => serde_json::json!(collection.sparse).to_string(),
        };
        self.scratch = json;
        Ok(Value::Json(&self.scratch))
    }

    fn row_name(&self) -> String {
        self.collections
            .get(self.at.wrapping_sub(1))
            .map(|found| format!("name {}", found.name))
            .unwrap_or_default()
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }

    fn losses_mut(&mut self) -> &mut Losses {
        &mut self.losses
    }

    fn rescan(&mut self, _: &[Operand]) -> Result<(), Error> {
        self.at = 0;
        Ok(())
    }
}

impl CollectionRows {
    fn beyond(&self, number: u64, column: &str, of: Type) -> Error {
        Error::Value(Box::new(BadValue {
            table: "collections".to_owned(),
            row: self.row_name(),
            column: column.to_owned(),
            wanted: of.to_string(),
            value: number.to_string(),
            problem: Problem::Range,
        }))
    }
}
