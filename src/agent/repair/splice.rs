//! Putting the functions or types that an answer holds into their file, where the answer is not the whole file.
//!
//! Small models often write only what they change. That is as good as the file, if there is no doubt where each piece
//! goes: every piece of the answer is a definition whose name and kind stand in the file exactly once. Nothing is guessed:
//! else there is no answer. Pure.

use std::time::Duration;

use tree_sitter::{Node, Tree};

use crate::agent::grammar::Language;

/// The longest that parsing may take; what is asked for is small.
const MOST_TIME: Duration = Duration::from_millis(500);
/// The deepest definition that is looked for.
const MOST_DEPTH: usize = 12;

/// A named piece of a file.
#[derive(Debug)]
struct Definition {
    name: String,
    kind: String,
    start: usize,
    end: usize,
}

/// The file with each definition of `answer` in the place of its own; `None`: there is a doubt.
pub fn splice(path: &str, original: &str, answer: &str) -> Option<String> {
    let language = Language::of(path)?;
    let tree = language.parse(original.as_bytes(), MOST_TIME)?;
    let mut known = Vec::new();
    collect(tree.root_node(), original, 0, &mut known);
    let mut pieces = Vec::new();
    for (definition, text) in definitions_of(language, answer)? {
        let mut same = known.iter().filter(|known| known.name == definition.name && known.kind == definition.kind);
        let (Some(place), None) = (same.next(), same.next()) else { return None };
        let indentation = indentation_at(original, place.start)?;
        pieces.push((place.start, place.end, with_indentation(&text, indentation)));
    }
    pieces.sort_by_key(|(start, ..)| *start);
    if pieces.is_empty() || pieces.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return None;
    }
    let mut whole = original.to_owned();
    for (start, end, text) in pieces.into_iter().rev() {
        whole.replace_range(start..end, &text);
    }
    let is_sound = |tree: Tree| !tree.root_node().has_error();
    (is_sound(language.parse(whole.as_bytes(), MOST_TIME)?) || tree.root_node().has_error()).then_some(whole)
}

/// The definitions that an answer is made of, each with its text from its first column on; `None`: it holds other things.
fn definitions_of(language: Language, answer: &str) -> Option<Vec<(Definition, String)>> {
    let tree = language.parse(answer.as_bytes(), MOST_TIME)?;
    if !tree.root_node().has_error() {
        return pieces_below(tree.root_node(), answer);
    }
    // A method alone is no program.
    let wrapped = format!("class A {{\n{answer}\n}}");
    let tree = language.parse(wrapped.as_bytes(), MOST_TIME)?;
    let root = tree.root_node();
    let body = (!root.has_error()).then(|| root.named_child(0)?.child_by_field_name("body")).flatten()?;
    pieces_below(body, &wrapped)
}

fn pieces_below(node: Node<'_>, text: &str) -> Option<Vec<(Definition, String)>> {
    let mut pieces = Vec::new();
    let mut cursor = node.walk();
    for child in node.named_children(&mut cursor) {
        if child.kind().contains("comment") {
            continue;
        }
        let definition = definition(child, text)?;
        let indentation = indentation_at(text, definition.start)?;
        let piece = text.get(definition.start..definition.end)?;
        let lines = piece.lines().map(|line| line.strip_prefix(indentation).unwrap_or(line));
        pieces.push((definition, lines.collect::<Vec<_>>().join("\n")));
    }
    Some(pieces)
}

fn collect(node: Node<'_>, text: &str, depth: usize, found: &mut Vec<Definition>) {
    if depth > MOST_DEPTH {
        return;
    }
    found.extend(definition(node, text));
    let mut cursor = node.walk();
    for child in node.named_children(&mut cursor) {
        collect(child, text, depth + 1, found);
    }
}

/// What a node defines, if it defines something that has a body.
fn definition(node: Node<'_>, text: &str) -> Option<Definition> {
    let kind = node.kind().to_owned();
    let is_definition = ["_definition", "_declaration", "_item"].iter().any(|end| kind.ends_with(end))
        || matches!(kind.as_str(), "export_statement" | "method" | "singleton_method" | "class" | "module");
    let name = is_definition.then(|| name_of(node, text, 0)).flatten()?;
    Some(Definition { name, kind, start: node.start_byte(), end: node.end_byte() })
}

fn name_of(node: Node<'_>, text: &str, depth: usize) -> Option<String> {
    if depth > MOST_DEPTH {
        return None;
    }
    let field = |name: &str| node.child_by_field_name(name);
    let inner = match node.kind() {
        "identifier" | "field_identifier" | "type_identifier" | "property_identifier" | "word" | "constant" => {
            return text.get(node.byte_range()).map(str::to_owned);
        }
        "decorated_definition" => field("definition"),
        "export_statement" => field("declaration"),
        "lexical_declaration" | "variable_declaration" => node.named_child(0).filter(|child| {
            let value = child.child_by_field_name("value");
            value.is_some_and(|value| value.kind().contains("function")) && node.named_child_count() == 1
        }),
        "impl_item" => field("type"),
        _ => field("name").or_else(|| field("declarator")),
    };
    name_of(inner?, text, depth + 1)
}

/// The spaces before a place that is the first of its line; `None`: something else stands before it.
fn indentation_at(text: &str, at: usize) -> Option<&str> {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let before = text.get(line..at)?;
    before.trim().is_empty().then_some(before)
}

fn with_indentation(text: &str, indentation: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |mut whole, line| {
        whole.push('\n');
        if !line.is_empty() {
            whole.push_str(indentation);
        }
        whole.push_str(line);
        whole
    })
}
