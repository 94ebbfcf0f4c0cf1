//! Virtual tables. They are programs, and keep what they have in tables of their own, which are named after them.

use rusqlite::Connection;

use super::schema::text;

/// A virtual table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Virtual {
    name: String,
    /// The program, in lower case.
    module: String,
    /// Whether its text is in another table, which its user has made and named.
    has_content_elsewhere: bool,
}

/// The virtual tables of a database.
pub(super) fn virtual_tables(connection: &Connection) -> rusqlite::Result<Vec<Virtual>> {
    let mut statement =
        connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND rootpage = 0")?;
    let found =
        statement.query_map([], |row| Ok(Virtual::new(text(row.get_ref(0)?), &text(row.get_ref(1)?))))?;
    found.collect()
}

impl Virtual {
    /// By its name, and the statement that made it: `CREATE VIRTUAL TABLE name USING module(arguments)`.
    fn new(name: String, sql: &str) -> Self {
        let mut rest = sql;
        while let Some(token) = Token::first(rest) {
            rest = token.rest;
            if !token.is_quoted && token.text.eq_ignore_ascii_case("USING") {
                break;
            }
        }
        let (module, arguments) =
            Token::first(rest).map_or((String::new(), ""), |module| (module.text, module.rest));
        let has_content_elsewhere = has_option(arguments, "content");
        Self { name, module: module.to_ascii_lowercase(), has_content_elsewhere }
    }

    /// Whether a table is one in which it keeps what it has. Of a program that is not known here, nothing is.
    pub(super) fn keeps(&self, table: &str) -> bool {
        let ending = table.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('_'));
        let Some(ending) = ending else { return false };
        match self.module.as_str() {
            "fts3" | "fts4" | "fts5" if ending == "content" => !self.has_content_elsewhere,
            "fts5" => matches!(ending, "data" | "idx" | "docsize" | "config"),
            "fts4" if ending == "docsize" => true,
            "fts3" | "fts4" => matches!(ending, "segments" | "segdir" | "stat"),
            "rtree" | "rtree_i32" | "geopoly" => matches!(ending, "node" | "rowid" | "parent"),
            "vec0" => {
                let kind = ending.trim_end_matches(|last: char| last.is_ascii_digit());
                match ending.len() - kind.len() {
                    0 => matches!(kind, "info" | "chunks" | "rowids" | "auxiliary"),
                    2 => matches!(kind, "vector_chunks" | "metadatachunks" | "metadatatext"),
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

/// Whether `name =` is among a module's arguments.
fn has_option(arguments: &str, name: &str) -> bool {
    let arguments = arguments.to_ascii_lowercase();
    arguments.match_indices(name).any(|(at, found)| {
        let is_begin = !arguments[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        is_begin && arguments[at + found.len()..].trim_start().starts_with('=')
    })
}

/// A word, quoted name or other character of SQL.
struct Token<'a> {
    /// Without its quotes.
    text: String,
    is_quoted: bool,
    rest: &'a str,
}

impl<'a> Token<'a> {
    /// The first token, after blanks and comments.
    fn first(sql: &'a str) -> Option<Self> {
        let mut sql = sql.trim_ascii_start();
        loop {
            let (comment, end) = match (sql.strip_prefix("--"), sql.strip_prefix("/*")) {
                (Some(comment), _) => (comment, "\n"),
                (_, Some(comment)) => (comment, "*/"),
                (None, None) => break,
            };
            sql = comment.split_once(end).map_or("", |(_, after)| after).trim_ascii_start();
        }
        let first = sql.chars().next()?;
        let close = match first {
            '\'' | '"' | '`' => first,
            '[' => ']',
            _ => {
                let is_word =
                    |part: char| part.is_alphanumeric() || matches!(part, '_' | '$') || !part.is_ascii();
                let end = sql.find(|part| !is_word(part)).unwrap_or(sql.len()).max(first.len_utf8());
                let (text, rest) = sql.split_at(end);
                return Some(Self { text: text.to_owned(), is_quoted: false, rest });
            }
        };
        let (mut text, mut rest) = (String::new(), &sql[1..]);
        while let Some((part, after)) = rest.split_once(close) {
            (rest, text) = (after, text + part);
            // A quote within is told by two; there is none for a bracket.
            match rest.strip_prefix(close).filter(|_| close != ']') {
                Some(after) => (rest, text) = (after, text + &close.to_string()),
                None => return Some(Self { text, is_quoted: true, rest }),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(sql: &str) -> (String, bool) {
        let found = Virtual::new("v".to_owned(), sql);
        (found.module, found.has_content_elsewhere)
    }

    #[test]
    fn the_module_is_found_however_it_is_written() {
        let plain = |name: &str| (name.to_owned(), false);
        assert_eq!(module("CREATE VIRTUAL TABLE v USING fts5(t)"), plain("fts5"));
        assert_eq!(module("CREATE VIRTUAL TABLE \"a \"\"USING x\" using[FTS4]"), plain("fts4"));
        assert_eq!(
            module("CREATE VIRTUAL TABLE 'using'/* USING a */ USING -- b\n `rtree`(id)"),
            plain("rtree")
        );
        assert_eq!(module("CREATE VIRTUAL TABLE v"), plain(""));
        assert_eq!(module("CREATE VIRTUAL TABLE 'v USING fts5"), plain(""));
        assert_eq!(module("CREATE VIRTUAL TABLE v USING fts5(content, content_rowid=id)"), plain("fts5"));
        assert_eq!(module("CREATE VIRTUAL TABLE v USING fts5(t, Content = '')"), ("fts5".to_owned(), true));
    }

    const TABLES: &str = "v v_ v_data v_idx v_content v_docsize v_config v_segments v_segdir v_stat v_node \
        v_rowid v_parent v_info v_chunks v_rowids v_vector_chunks00 v_vector_chunks0 \
        v_metadatatext12 v_metadatatext v_data00 w_data vdata";

    #[test]
    fn each_module_has_tables_of_its_own() {
        let keeps = |module: &str, table: &str| {
            Virtual::new("v".to_owned(), &format!("CREATE VIRTUAL TABLE v USING {module}")).keeps(table)
        };
        for (module, own) in [
            ("fts3(t)", "v_content v_segments v_segdir v_stat"),
            ("fts4(t)", "v_content v_segments v_segdir v_stat v_docsize"),
            ("fts5(t)", "v_data v_idx v_content v_docsize v_config"),
            ("fts5(t, content=v_content)", "v_data v_idx v_docsize v_config"),
            ("rtree(id, a, b)", "v_node v_rowid v_parent"),
            ("vec0(e float[4])", "v_info v_chunks v_rowids v_vector_chunks00 v_metadatatext12"),
            ("unknown", ""),
        ] {
            let own: Vec<&str> = own.split_whitespace().collect();
            for table in TABLES.split_whitespace() {
                assert_eq!(keeps(module, table), own.contains(&table), "{module} {table}");
            }
        }
    }
}
