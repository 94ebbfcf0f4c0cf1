//! Fenced blocks of code in Markdown: whether a window begins within one.

/// The fences of a text up to a place.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// The beginning of the first line that has not been looked at.
    seen: usize,
    open: Option<Fence>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fence {
    mark: u8,
    length: usize,
}

impl Fences {
    /// Looks at the lines before byte `to`; tells whether it is within a block.
    pub(super) fn advance(&mut self, text: &str, to: usize) -> bool {
        let mut line_start = self.seen;
        for line in text[self.seen..to].split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            self.open = match (self.open, fence(line)) {
                (None, Some((fence, _))) => Some(fence),
                (Some(open), Some((fence, true))) if fence.closes(open) => None,
                (open, _) => open,
            };
            line_start += line.len();
        }
        self.seen = line_start;
        self.open.is_some()
    }

    /// Where the block that the window begins in ends, if it does so in the window.
    pub(super) fn end_of_block(&self, window: &str) -> Option<usize> {
        let open = self.open?;
        let mut end = 0;
        window.split_inclusive('\n').find_map(|line| {
            end += line.len();
            fence(line).is_some_and(|(fence, bare)| bare && fence.closes(open)).then_some(end)
        })
    }
}

impl Fence {
    fn closes(self, open: Self) -> bool {
        self.mark == open.mark && self.length >= open.length
    }
}

/// The fence that a line is, and whether it is nothing else.
fn fence(line: &str) -> Option<(Fence, bool)> {
    let line = line.trim();
    let mark = line.bytes().next().filter(|mark| matches!(mark, b'`' | b'~'))?;
    let length = line.bytes().take_while(|byte| *byte == mark).count();
    let info = &line[length..];
    // What follows backticks has none, or it is code within a line.
    (length >= 3 && !(mark == b'`' && info.contains('`')))
        .then_some((Fence { mark, length }, info.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::Fences;

    #[test]
    fn a_block_ends_with_a_fence_of_its_own_kind() {
        let text = "text\n```sql\n# no heading\n~~~\n```\nafter\n~~~~\n~~~\n~~~~\n";
        let within: Vec<bool> =
            text.match_indices('\n').map(|(place, _)| Fences::default().advance(text, place + 1)).collect();
        assert_eq!(within, [false, true, true, true, false, false, true, true, false]);
    }

    #[test]
    fn the_lines_may_come_in_parts() {
        let text = "a\n```\ncode\n```\nb\n";
        let mut fences = Fences::default();
        let within: Vec<bool> = (0..text.len()).map(|to| fences.advance(text, to)).collect();
        let expected: Vec<bool> = (0..text.len()).map(|to| (6..15).contains(&to)).collect();
        assert_eq!(within, expected);
    }

    #[test]
    fn the_end_of_a_block_is_found() {
        let text = "```\none\n```\ntwo\n";
        let mut fences = Fences::default();
        assert!(fences.advance(text, 4));
        assert_eq!(fences.end_of_block(&text[4..]), Some(8));
        assert_eq!(fences.end_of_block("one\n``\n"), None);
    }
}
