//! Conditions that SQLite applies: they never hold back a row that satisfies them, whatever a column stores.

use proptest::prelude::*;
use vector_embed_sources::{Accepted, Comparison, Filter, OnError, Operand, Operation, Scan, Source, Type};

use crate::support::{Fixture, read, rest, scan};

const COMPARISONS: [Comparison; 5] = [
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Equal,
    Comparison::GreaterOrEqual,
    Comparison::Greater,
];

const DECLARED: [&str; 8] =
    ["INTEGER", "TEXT", "TEXT COLLATE NOCASE", "REAL", "NUMERIC", "BLOB", "BOOLEAN", ""];

/// A value as SQLite's SQL writes it.
fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("NULL".to_owned()),
        (-3_i64..3).prop_map(|number| number.to_string()),
        prop_oneof![
            Just("9007199254740993"),
            Just("-9223372036854775808"),
            Just("9e999"),
            Just("0.5"),
            Just("1.0")
        ]
        .prop_map(str::to_owned),
        "[aA1 .]{0,2}".prop_map(|text| format!("'{text}'")),
        Just("x'31'".to_owned()),
    ]
}

fn operand(of: Type) -> BoxedStrategy<Operand> {
    match of {
        Type::Text => "[aA1 .]{0,2}".prop_map(Operand::Text).boxed(),
        Type::Double => prop_oneof![
            (-3_i8..3).prop_map(f64::from),
            Just(0.5),
            Just(9007199254740992.0),
            Just(f64::INFINITY),
            Just(f64::NAN)
        ]
        .prop_map(Operand::Float)
        .boxed(),
        _ => prop_oneof![-3_i64..3, Just(9_007_199_254_740_993), Just(i64::MIN)]
            .prop_map(Operand::Integer)
            .boxed(),
    }
}

/// Whether a value that was read satisfies the condition, as PostgreSQL sees it.
fn holds(value: &str, comparison: Comparison, operand: &Operand) -> bool {
    let order = match operand {
        _ if value == "NULL" => return false,
        Operand::Integer(number) => value.parse::<i64>().expect("an integer").cmp(number),
        Operand::Float(number) if number.is_nan() => std::cmp::Ordering::Less,
        Operand::Float(number) => value.parse::<f64>().expect("a number").total_cmp(number),
        Operand::Text(text) => value.cmp(text),
        _ => unreachable!("no such operand is made"),
    };
    match comparison {
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Equal => order.is_eq(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Greater => order.is_gt(),
    }
}

/// The values of rows that can be read, one by one.
fn readable(fixture: &Fixture, scan: &Scan) -> Vec<(String, String)> {
    let mut rows = Source::open(&fixture.source(), scan).expect("opened");
    let mut all = Vec::new();
    while rows.next().expect("a row") {
        let name = rows.row_name();
        if let Ok(value) = rows.value(0) {
            all.push((name, crate::support::told(value)));
        }
    }
    all
}

fn case() -> impl Strategy<Value = (&'static str, Type, Vec<String>, Comparison, Operand)> {
    let of = prop_oneof![Just(Type::Bigint), Just(Type::Text), Just(Type::Double)];
    (prop::sample::select(&DECLARED[..]), of).prop_flat_map(|(declared, of)| {
        let values = prop::collection::vec(literal(), 1..12);
        (Just(declared), Just(of), values, prop::sample::select(&COMPARISONS[..]), operand(of))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_row_is_held_back((declared, of, values, comparison, operand) in case()) {
        let rows: Vec<String> = values.iter().map(|value| format!("({value})")).collect();
        let fixture = Fixture::new(&format!("CREATE TABLE t(x {declared}); INSERT INTO t VALUES {}", rows.join(", ")));
        let filter = Filter { column: "x".to_owned(), of, operation: Operation::Compare(comparison) };
        let mut scan = scan("t", &[("x", of)]);
        let plan = fixture.source().plan(&scan, std::slice::from_ref(&filter)).expect("a plan");
        let expected: Vec<_> = readable(&fixture, &scan)
            .into_iter()
            .filter(|(_, value)| holds(value, comparison, &operand))
            .collect();
        if plan.accepted[0] != Accepted::No {
            scan.filters = vec![filter];
            scan.operands = vec![operand.clone()];
            let got = readable(&fixture, &scan);
            for row in &expected {
                prop_assert!(got.contains(row), "{row:?} is missing in {got:?}");
            }
            let is_nan = matches!(operand, Operand::Float(number) if number.is_nan());
            if plan.accepted[0] == Accepted::Fully && !is_nan {
                prop_assert_eq!(got, expected);
            }
        }
    }
}

fn accepted(declared: &str, of: Type, comparison: Comparison) -> Accepted {
    let fixture = Fixture::new(&format!("CREATE TABLE t(x {declared})"));
    let filter = Filter { column: "x".to_owned(), of, operation: Operation::Compare(comparison) };
    fixture.source().plan(&scan("t", &[("x", of)]), &[filter]).expect("a plan").accepted[0]
}

#[test]
fn what_is_the_same_in_both_is_left_to_sqlite() {
    assert_eq!(accepted("INTEGER", Type::Bigint, Comparison::Less), Accepted::Fully);
    assert_eq!(accepted("REAL", Type::Double, Comparison::Greater), Accepted::Fully);
    assert_eq!(accepted("TEXT", Type::Text, Comparison::Equal), Accepted::Fully);
    assert_eq!(accepted("TEXT", Type::Text, Comparison::Less), Accepted::No);
    assert_eq!(accepted("DATETIME", Type::Timestamptz, Comparison::Equal), Accepted::No);
    assert_eq!(accepted("BOOLEAN", Type::Boolean, Comparison::Equal), Accepted::No);
    assert_eq!(accepted("TEXT", Type::Bigint, Comparison::Equal), Accepted::No);
    assert_eq!(accepted("", Type::Bigint, Comparison::Equal), Accepted::No);
}

#[test]
fn lists_and_null_tests_are_applied() {
    let fixture = Fixture::new("CREATE TABLE t(x INTEGER); INSERT INTO t VALUES (1), (2), (3), (NULL), (3)");
    let filtered = |operation, operand| {
        let mut scan = scan("t", &[("x", Type::Bigint)]);
        scan.filters = vec![Filter { column: "x".to_owned(), of: Type::Bigint, operation }];
        scan.operands = vec![operand];
        read(&fixture.source(), &scan).expect("rows").concat()
    };
    let several = Operand::Several(vec![Operand::Integer(3), Operand::Null, Operand::Integer(1)]);
    assert_eq!(filtered(Operation::In, several), ["1", "3", "3"]);
    assert_eq!(filtered(Operation::In, Operand::Several(Vec::new())), [""; 0]);
    assert_eq!(filtered(Operation::In, Operand::Null), [""; 0]);
    assert_eq!(filtered(Operation::IsNull, Operand::None), ["NULL"]);
    assert_eq!(filtered(Operation::IsNotNull, Operand::None), ["1", "2", "3", "3"]);
    let many = Operand::Several((0..5000).map(Operand::Integer).collect());
    assert_eq!(filtered(Operation::In, many).len(), 5, "too many to be sent: all rows come");
}

#[test]
fn a_limit_is_not_applied_without_its_condition() {
    let fixture = Fixture::new("CREATE TABLE t(x REAL); INSERT INTO t VALUES (1), (2), (3)");
    let mut scan = scan("t", &[("x", Type::Double)]);
    scan.filters = vec![Filter {
        column: "x".to_owned(),
        of: Type::Double,
        operation: Operation::Compare(Comparison::Less),
    }];
    scan.operands = vec![Operand::Float(f64::NAN)];
    scan.limit = Some(1);
    assert_eq!(read(&fixture.source(), &scan).expect("rows").len(), 3);
}

#[test]
fn rows_are_read_anew_with_other_operands() {
    let fixture = Fixture::new("CREATE TABLE t(x INTEGER); INSERT INTO t VALUES (1), (2), (3)");
    let mut scan = scan("t", &[("x", Type::Bigint)]);
    scan.filters = vec![Filter {
        column: "x".to_owned(),
        of: Type::Bigint,
        operation: Operation::Compare(Comparison::Equal),
    }];
    scan.operands = vec![Operand::Integer(2)];
    let mut rows = Source::open(&fixture.source(), &scan).expect("opened");
    assert_eq!(rest(&mut *rows, 1).expect("rows"), [["2"]]);
    rows.rescan(&[Operand::Integer(3)]).expect("anew");
    assert_eq!(rest(&mut *rows, 1).expect("rows"), [["3"]]);
    rows.rescan(&[Operand::Null]).expect("anew");
    assert_eq!(rest(&mut *rows, 1).expect("rows").len(), 0);
    rows.rescan(&[Operand::Integer(1)]).expect("anew");
    assert!(rows.next().expect("a row"));
    rows.rescan(&[Operand::Integer(1)]).expect("anew, in the midst");
    assert_eq!(rest(&mut *rows, 1).expect("rows"), [["1"]]);
}

#[test]
fn values_that_became_null_are_not_looked_for_by_sqlite() {
    let fixture = Fixture::new("CREATE TABLE t(x INTEGER)");
    let mut scan = scan("t", &[("x", Type::Bigint)]);
    scan.on_error = OnError::Null;
    let filter = Filter { column: "x".to_owned(), of: Type::Bigint, operation: Operation::IsNull };
    assert_eq!(fixture.source().plan(&scan, &[filter]).expect("a plan").accepted, [Accepted::No]);
}

#[test]
fn a_condition_that_was_accepted_for_another_file_holds_no_row_back() {
    let fixture = Fixture::new("CREATE TABLE t(n TEXT); INSERT INTO t VALUES ('7'), ('5'), ('05'), (' 5')");
    let mut scan = scan("t", &[("n", Type::Bigint)]);
    let operation = Operation::Compare(Comparison::Equal);
    scan.filters = vec![Filter { column: "n".to_owned(), of: Type::Bigint, operation }];
    scan.operands = vec![Operand::Integer(5)];
    scan.limit = Some(1);
    let rows = read(&fixture.source(), &scan).expect("readable rows");
    assert_eq!(rows, [["7"], ["5"], ["5"], ["5"]]);
}
