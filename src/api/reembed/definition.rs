//! An index's definition, told of another column.

/// A part of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// A name or keyword, quoted or not.
    Word(&'a str),
    /// All else, each by itself: a string, a number, a sign, blanks.
    Other(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(text) | Self::Other(text) => text,
        }
    }
}

/// What PostgreSQL has written of an expression or index.
fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$');
        let length = match first {
            '"' => end_of_quoted(rest, '"', false),
            '\'' => {
                let is_escaped = tokens.last() == Some(&Token::Word("E"));
                end_of_quoted(rest, '\'', is_escaped)
            }
            ':' if rest.starts_with("::") => 2,
            _ if is_word(first) => rest.find(|character| !is_word(character)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (text, others) = rest.split_at(length);
        let is_name = first == '"' || (is_word(first) && !first.is_ascii_digit());
        tokens.push(if is_name { Token::Word(text) } else { Token::Other(text) });
        rest = others;
    }
    tokens
}

/// Where a quoted string ends; a quote that is doubled, or escaped, is part of it.
fn end_of_quoted(sql: &str, quote: char, escapes: bool) -> usize {
    let mut characters = sql.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if escapes && character == '\\' {
            characters.next();
        } else if character == quote {
            match characters.peek() {
                Some((_, next)) if *next == quote => {
                    characters.next();
                }
                _ => return at + quote.len_utf8(),
            }
        }
    }
    sql.len()
}

/// What changes in a definition: the column, as it is quoted, and the dimensions of vectors.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) dimensions: Option<(usize, usize)>,
}

impl Change {
    fn apply(&self, tokens: &[Token<'_>]) -> String {
        const TYPES: [&str; 4] = ["vector", "halfvec", "sparsevec", "bit"];
        let mut changed = String::new();
        for (place, token) in tokens.iter().enumerate() {
            let before = |distance: usize| place.checked_sub(distance).map(|place| tokens[place].text());
            let after = tokens.get(place + 1).map(|token| token.text());
            let is_column = *token == Token::Word(&self.from)
                && !matches!(before(1), Some("::" | "."))
                && !matches!(after, Some("(" | "."));
            let is_length = after == Some(")")
                && before(1) == Some("(")
                && before(2).is_some_and(|name| TYPES.contains(&name))
                && self.dimensions.is_some_and(|(from, _)| token.text() == from.to_string());
            match self.dimensions {
                Some((_, to)) if is_length => changed.push_str(&to.to_string()),
                _ if is_column => changed.push_str(&self.to),
                _ => changed.push_str(token.text()),
            }
        }
        changed
    }
}

/// A definition as `pg_get_indexdef` gives it, from its USING on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    /// Method, columns and options.
    pub(super) body: String,
    /// The condition of a partial index, with its WHERE.
    pub(super) condition: String,
}

impl Definition {
    /// The definition after a change; `None` if it is none of an index.
    pub(super) fn new(sql: &str, change: Option<&Change>) -> Option<Self> {
        let tokens = tokens(sql);
        // Keywords are written in capitals; names in capitals are quoted.
        let start = tokens.iter().position(|token| *token == Token::Word("USING"))?;
        let mut depth = 0;
        let mut end = tokens.len();
        for (place, token) in tokens.iter().enumerate().skip(start) {
            match token.text() {
                "(" => depth += 1,
                ")" => depth -= 1,
                "WHERE" if depth == 0 => {
                    end = place;
                    break;
                }
                _ => {}
            }
        }
        let told = |tokens: &[Token<'_>]| match change {
            Some(change) => change.apply(tokens),
            None => tokens.iter().map(|token| token.text()).collect(),
        };
        let body = told(&tokens[start..end]).trim_end().to_owned();
        Some(Self { body, condition: told(&tokens[end..]) })
    }
}
