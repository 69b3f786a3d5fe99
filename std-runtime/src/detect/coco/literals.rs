//! Python writes NaN and Infinity into JSON, which does not have them: here they become null while a file is read. Keeps strings, numbers and nesting
//! within limits, so that a hostile file does not fill memory.

use std::io::{self, BufRead, Read};

/// Longest string, number or word in bytes.
const LONGEST: u64 = 16 << 20;
/// Deepest nesting. More than the parser of values takes, so that it names its own limit first.
const DEEPEST: u32 = 1024;

const NULL: &[u8] = b"null";
const NAN: &[u8] = b"NaN";
const INFINITY: &[u8] = b"Infinity";

/// A reader of JSON without literals that are not finite.
pub(super) struct Literals<R> {
    source: R,
    ready: Vec<u8>,
    at: usize,
    state: State,
    /// Length of the current token, and depth of nesting.
    length: u64,
    depth: u32,
}

#[derive(Clone, Copy)]
enum State {
    Plain,
    Text,
    /// After a backslash in a string.
    Escaped,
    /// After a minus sign, which is held back.
    Minus,
    /// Within a literal of which so many bytes are read; with its minus sign.
    Literal {
        word: &'static [u8],
        read: usize,
        minus: bool,
    },
}

impl<R: BufRead> Literals<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, ready: Vec::new(), at: 0, state: State::Plain, length: 0, depth: 0 }
    }

    /// Translates the next piece of the source; false at its end.
    fn advance(&mut self) -> io::Result<bool> {
        self.ready.clear();
        self.at = 0;
        let piece = self.source.fill_buf()?;
        let len = piece.len();
        if len == 0 {
            let state = std::mem::replace(&mut self.state, State::Plain);
            self.ready.extend(held(state));
            return Ok(!self.ready.is_empty());
        }
        let mut machine = Machine { ready: &mut self.ready, state: self.state, length: self.length, depth: self.depth };
        for &byte in piece {
            machine.take(byte)?;
        }
        (self.state, self.length, self.depth) = (machine.state, machine.length, machine.depth);
        self.source.consume(len);
        Ok(true)
    }
}

impl<R: BufRead> Read for Literals<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.at == self.ready.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let ready = self.ready.get(self.at..).unwrap_or_default();
        let len = ready.len().min(to.len());
        to.iter_mut().zip(ready).for_each(|(to, &byte)| *to = byte);
        self.at += len;
        Ok(len)
    }
}

/// What is held back in a state.
fn held(state: State) -> impl Iterator<Item = u8> {
    let (minus, word) = match state {
        State::Plain | State::Text | State::Escaped => (false, &[][..]),
        State::Minus => (true, &[][..]),
        State::Literal { word, read, minus } => (minus, word.get(..read).unwrap_or_default()),
    };
    minus.then_some(b'-').into_iter().chain(word.iter().copied())
}

struct Machine<'r> {
    ready: &'r mut Vec<u8>,
    state: State,
    length: u64,
    depth: u32,
}

impl Machine<'_> {
    fn take(&mut self, byte: u8) -> io::Result<()> {
        self.length += 1;
        if self.length > LONGEST {
            return Err(limit(format!("a string or number of more than {LONGEST} bytes")));
        }
        match self.state {
            State::Text => {
                self.ready.push(byte);
                match byte {
                    b'\\' => self.state = State::Escaped,
                    b'"' => self.state = State::Plain,
                    _ => {}
                }
            }
            State::Escaped => {
                self.ready.push(byte);
                self.state = State::Text;
            }
            State::Plain => self.plain(byte)?,
            State::Minus if byte == b'I' => self.state = State::Literal { word: INFINITY, read: 1, minus: true },
            State::Literal { word, read, minus } if word.get(read) == Some(&byte) => {
                self.state = State::Literal { word, read: read + 1, minus };
                if read + 1 == word.len() {
                    self.ready.extend(NULL);
                    self.state = State::Plain;
                }
            }
            state @ (State::Minus | State::Literal { .. }) => {
                self.ready.extend(held(state));
                self.state = State::Plain;
                self.plain(byte)?;
            }
        }
        Ok(())
    }

    /// A byte outside of strings.
    fn plain(&mut self, byte: u8) -> io::Result<()> {
        match byte {
            b'-' => self.state = State::Minus,
            b'N' => self.state = State::Literal { word: NAN, read: 1, minus: false },
            b'I' => self.state = State::Literal { word: INFINITY, read: 1, minus: false },
            byte => self.ready.push(byte),
        }
        match byte {
            b'"' => (self.state, self.length) = (State::Text, 0),
            b'[' | b'{' => {
                (self.depth, self.length) = (self.depth + 1, 0);
                if self.depth > DEEPEST {
                    return Err(limit(format!("lists and objects nested more than {DEEPEST} deep")));
                }
            }
            b']' | b'}' => (self.depth, self.length) = (self.depth.saturating_sub(1), 0),
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => self.length = 0,
            _ => {}
        }
        Ok(())
    }
}

fn limit(found: String) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text as it is read, in pieces of every length.
    fn read(text: &str) -> String {
        let mut all = Vec::new();
        for piece in 1..12 {
            let mut found = String::new();
            let source = io::BufReader::with_capacity(piece, text.as_bytes());
            Literals::new(source).read_to_string(&mut found).unwrap();
            all.push(found);
        }
        all.dedup();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn literals_of_python_become_null() {
        assert_eq!(read("[NaN,-1, -Infinity,Infinity]"), "[null,-1, null,null]");
        assert_eq!(read("NaN"), "null");
    }

    #[test]
    fn strings_and_all_else_stay() {
        for text in
            ["{\"NaN \\\" NaN\": \"-Infinity\\\\\"}", "[-1.5e-3, true, false, null]", "Na", "-Inf", "[NaX, -, Infinite]", ""]
        {
            assert_eq!(read(text), text);
        }
    }

    #[test]
    fn what_fills_memory_is_refused() {
        let error = |text: &str| {
            let mut reader = Literals::new(text.as_bytes());
            io::copy(&mut reader, &mut io::sink()).unwrap_err().to_string()
        };
        assert!(error(&"[".repeat(2000)).contains("1024 deep"));
        let long = "1".repeat(LONGEST as usize + 1);
        assert!(error(&long).contains("16777216 bytes"));
        assert!(error(&format!("[\"{long}\"]")).contains("16777216 bytes"));
        let many = format!("[{}", "[1,\"ab\"],\n".repeat(1000));
        assert_eq!(read(&many), many);
    }
}
