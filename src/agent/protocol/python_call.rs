//! Calls in Python's form, as Gemma and Llama 4 write them. Pure; never panics.
//!
//! ```text
//! calls   := call ( [";"] call )* | "[" call ( "," call )* "]"
//! call    := [ "print(" ] name "(" [ key "=" literal ( "," key "=" literal )* [","] ] ")" [ ")" ]
//! literal := text | number | "True" | "False" | "None" | "[" literals "]" | "{" text ":" literal ... "}"
//! text    := Python's, in ' or " or three of them; escapes \n \t \r \\ \' \" \xHH \uHHHH, a joined line; any other
//!            escape stands for itself, as in Python
//! ```
//!
//! Nothing else is bent: positions, expressions and prefixes of texts are no call.

use serde_json::{Map, Value};

/// How deep lists may be nested.
const DEEPEST: usize = 16;

/// A call's name and arguments.
pub(super) type PythonCall = (String, Map<String, Value>);

/// The calls that `text` begins with, and where they end.
pub(super) fn calls(text: &str) -> Option<(Vec<PythonCall>, usize)> {
    let mut cursor = Cursor { text, at: 0 };
    let is_list = cursor.take("[");
    let mut calls = vec![cursor.call()?];
    loop {
        let before = cursor.at;
        let goes_on = if is_list { cursor.take(",") } else { cursor.take(";") || cursor.is_at_name() };
        match goes_on.then(|| cursor.call()).flatten() {
            Some(call) => calls.push(call),
            None => {
                cursor.at = before;
                break;
            }
        }
    }
    if is_list {
        cursor.take(",");
    }
    (!is_list || cursor.take("]")).then_some((calls, cursor.at))
}

/// The literal that `text` begins with.
pub(super) fn literal(text: &str) -> Option<Value> {
    Cursor { text, at: 0 }.literal(0)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes `token`, if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let is_next = self.rest().starts_with(token);
        self.at += if is_next { token.len() } else { 0 };
        is_next
    }

    fn is_at_name(&mut self) -> bool {
        self.skip_space();
        self.rest().starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
    }

    fn name(&mut self) -> Option<String> {
        if !self.is_at_name() {
            return None;
        }
        let is_inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
        let length = self.rest().find(|letter| !is_inside(letter)).unwrap_or(self.rest().len());
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Some(name)
    }

    fn call(&mut self) -> Option<PythonCall> {
        let is_printed = self.take("print(");
        let name = self.name()?;
        let mut arguments = Map::new();
        if !self.rest().starts_with('(') {
            return None;
        }
        self.at += 1;
        while !self.take(")") {
            let key = self.name()?;
            if !self.take("=") {
                return None;
            }
            arguments.insert(key, self.literal(0)?);
            if !self.take(",") {
                if !self.take(")") {
                    return None;
                }
                break;
            }
        }
        (!is_printed || self.take(")")).then_some((name, arguments))
    }

    fn literal(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        for (word, value) in [("True", Value::Bool(true)), ("False", Value::Bool(false)), ("None", Value::Null)] {
            if self.take(word) {
                return Some(value);
            }
        }
        if self.take("[") {
            let mut values = Vec::new();
            while !self.take("]") {
                values.push(self.literal(depth + 1)?);
                if !self.take(",") {
                    return self.take("]").then_some(Value::Array(values));
                }
            }
            return Some(Value::Array(values));
        }
        if self.take("{") {
            let mut object = Map::new();
            while !self.take("}") {
                let key = self.string()?;
                if !self.take(":") {
                    return None;
                }
                object.insert(key, self.literal(depth + 1)?);
                if !self.take(",") {
                    return self.take("}").then_some(Value::Object(object));
                }
            }
            return Some(Value::Object(object));
        }
        self.skip_space();
        if self.rest().starts_with(['"', '\'']) {
            return self.string().map(Value::String);
        }
        let length = self.rest().find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-.".contains(letter));
        let number = &self.rest()[..length.unwrap_or(self.rest().len())];
        let value = serde_json::from_str::<serde_json::Number>(number).ok()?;
        self.at += number.len();
        Some(Value::Number(value))
    }

    fn string(&mut self) -> Option<String> {
        self.skip_space();
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| self.rest().starts_with(quote))?;
        self.at += quote.len();
        let mut text = String::new();
        loop {
            if self.rest().starts_with(quote) {
                self.at += quote.len();
                return Some(text);
            }
            let letter = self.rest().chars().next()?;
            self.at += letter.len_utf8();
            match letter {
                '\\' => self.escape(&mut text)?,
                '\n' if quote.len() == 1 => return None,
                letter => text.push(letter),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let letter = self.rest().chars().next()?;
        self.at += letter.len_utf8();
        let digits = match letter {
            'x' => 2,
            'u' => 4,
            letter => {
                match letter {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    '\\' | '\'' | '"' => text.push(letter),
                    '\n' => {}
                    other => text.extend(['\\', other]),
                }
                return Some(());
            }
        };
        let code = self.rest().get(..digits)?;
        text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        self.at += digits;
        Some(())
    }
}
