//! The tags of one file: what it defines, and which names it uses, by its syntax tree.
//!
//! A definition is a node of a kind in [`definition_kind`] with a name; a use is any identifier that is not such a name.
//! That is less than a compiler knows and enough to rank files and to find a function by a line in it.

use std::collections::HashMap;
use std::time::Duration;

use tree_sitter::{Node, TreeCursor};

use super::super::grammar::Language;
use super::super::text::clip;

/// The longest line of a definition that is shown, in bytes.
const LONGEST_SIGNATURE: usize = 110;
/// A file takes no longer than this; one that does has no tags.
const LONGEST_PARSE: Duration = Duration::from_millis(250);
/// Names are no longer than this.
const LONGEST_NAME: usize = 80;

/// A name as a number: most names of a repository stand in many of its files.
pub(in crate::agent) type Name = u32;

/// The names that were met.
#[derive(Debug, Default)]
pub(in crate::agent) struct Names {
    numbers: HashMap<Box<str>, Name>,
    texts: Vec<Box<str>>,
}

impl Names {
    fn number(&mut self, text: &str) -> Name {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = Name::try_from(self.texts.len()).unwrap_or(Name::MAX);
        self.numbers.insert(text.into(), number);
        self.texts.push(text.into());
        number
    }

    pub(in crate::agent) fn find(&self, text: &str) -> Option<Name> {
        self.numbers.get(text).copied()
    }

    pub(in crate::agent) fn text(&self, name: Name) -> &str {
        self.texts.get(name as usize).map(AsRef::as_ref).unwrap_or_default()
    }
}

/// What a definition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) enum Kind {
    /// A function, a method, a macro, a test.
    Code,
    /// A class, a structure, an interface, a module.
    Holder,
    /// A type without code of its own, a constant.
    Other,
}

/// A definition; lines count from 0, and `last` is its last one.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Definition {
    pub(in crate::agent) name: Name,
    pub(in crate::agent) kind: Kind,
    /// With what belongs to it: decorators, attributes, `export`.
    pub(in crate::agent) first: usize,
    /// The line with its name.
    pub(in crate::agent) line: usize,
    pub(in crate::agent) last: usize,
    /// How many definitions it lies in.
    pub(in crate::agent) depth: usize,
    pub(in crate::agent) signature: String,
}

/// What one file defines and uses.
#[derive(Debug, Default)]
pub(in crate::agent) struct Tags {
    /// In the order of the file, outer ones before what they hold.
    pub(in crate::agent) definitions: Vec<Definition>,
    /// Each name once, with the lines that use it, in order; no more than [`MOST_USES`] of them.
    pub(in crate::agent) uses: Vec<(Name, Vec<u32>)>,
}

/// Lines of one name in one file that are kept.
const MOST_USES: usize = 16;

/// Reads the tags of a text; none where its language is not known.
pub(in crate::agent) fn read(path: &str, text: &str, names: &mut Names) -> Tags {
    let Some(language) = Language::of(path) else { return Tags::default() };
    let Some(tree) = language.parse(text.as_bytes(), LONGEST_PARSE) else { return Tags::default() };
    let lines: Vec<&str> = text.lines().collect();
    let mut tags = Tags::default();
    let mut uses: HashMap<Name, Vec<u32>> = HashMap::new();
    // Where the definitions around the cursor end, as bytes, and where the names of definitions begin.
    let mut around: Vec<usize> = Vec::new();
    let mut own_names: Vec<usize> = Vec::new();
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        while around.last().is_some_and(|end| *end <= node.start_byte()) {
            around.pop();
        }
        if let Some((kind, name)) = definition(language, node)
            && let Some(text_of_name) = text.get(name.byte_range()).filter(|text| text.len() <= LONGEST_NAME)
        {
            let line = name.start_position().row;
            let signature = lines.get(line).map(|line| signature(line)).unwrap_or_default();
            tags.definitions.push(Definition {
                name: names.number(text_of_name.trim_matches(['"', '\'', '`'])),
                kind,
                first: with_belongings(node).start_position().row,
                line,
                last: last_row(node),
                depth: around.len(),
                signature,
            });
            own_names.push(name.start_byte());
            around.push(node.end_byte());
        } else if is_identifier(language, node)
            && !own_names.contains(&node.start_byte())
            && let Some(used) = text.get(node.byte_range()).filter(|text| text.len() <= LONGEST_NAME)
        {
            let lines = uses.entry(names.number(used)).or_default();
            if lines.len() < MOST_USES {
                lines.push(u32::try_from(node.start_position().row).unwrap_or(u32::MAX));
            }
        }
        if own_names.len() > 64 {
            own_names.drain(..32);
        }
        if !next(&mut cursor) {
            break;
        }
    }
    tags.uses = uses.into_iter().collect();
    tags.uses.sort_unstable_by_key(|(name, _)| *name);
    tags
}

/// The next node in the order of the text; false at its end.
fn next(cursor: &mut TreeCursor<'_>) -> bool {
    if cursor.goto_first_child() {
        return true;
    }
    loop {
        if cursor.goto_next_sibling() {
            return true;
        }
        if !cursor.goto_parent() {
            return false;
        }
    }
}

/// A node's last row; one that ends with a line end does not reach into the row behind it.
fn last_row(node: Node<'_>) -> usize {
    let (start, end) = (node.start_position(), node.end_position());
    if end.column == 0 && end.row > start.row { end.row - 1 } else { end.row }
}

/// The node with what stands around it and belongs to it.
fn with_belongings(node: Node<'_>) -> Node<'_> {
    match node.parent() {
        Some(parent)
            if matches!(
                parent.kind(),
                "decorated_definition"
                    | "export_statement"
                    | "template_declaration"
                    | "lexical_declaration"
                    | "variable_declaration"
                    | "expression_statement"
                    | "type_declaration"
            ) =>
        {
            parent
        }
        Some(_) | None => node,
    }
}

/// What a node defines, and the node of its name; `None`: nothing.
fn definition<'tree>(language: Language, node: Node<'tree>) -> Option<(Kind, Node<'tree>)> {
    let kind = definition_kind(language, node.kind())?;
    let name = match (language, node.kind()) {
        (Language::C | Language::Cpp, "function_definition" | "type_definition") => {
            declared(node.child_by_field_name("declarator")?)?
        }
        // A forward declaration or a use of the type has no body.
        (
            Language::C | Language::Cpp,
            "struct_specifier" | "union_specifier" | "enum_specifier" | "class_specifier",
        ) => {
            node.child_by_field_name("body")?;
            declared(node.child_by_field_name("name")?)?
        }
        (Language::JavaScript | Language::TypeScript | Language::Tsx, "variable_declarator") => {
            let value = node.child_by_field_name("value")?.kind();
            matches!(value, "arrow_function" | "function_expression" | "generator_function" | "class").then_some(())?;
            node.child_by_field_name("name").filter(|name| name.kind() == "identifier")?
        }
        // `test("adds", () => { ... })`: named by its first argument.
        (Language::JavaScript | Language::TypeScript | Language::Tsx, "call_expression") => named_test(node)?,
        _ => node.child_by_field_name("name")?,
    };
    Some((kind, name))
}

/// The name inside of a declarator of C or C++: below pointers, parameters and namespaces.
fn declared(mut node: Node<'_>) -> Option<Node<'_>> {
    for _ in 0..16 {
        node = match node.kind() {
            "identifier" | "field_identifier" | "type_identifier" | "destructor_name" | "operator_name" => {
                return Some(node);
            }
            "qualified_identifier" | "template_type" | "template_function" => node.child_by_field_name("name")?,
            _ => match node.child_by_field_name("declarator") {
                Some(inner) => inner,
                // A reference declarator has no field for what it holds.
                None => node.named_child(0)?,
            },
        };
    }
    None
}

fn named_test(node: Node<'_>) -> Option<Node<'_>> {
    let function = node.child_by_field_name("function")?;
    if function.kind() != "identifier" && function.kind() != "member_expression" {
        return None;
    }
    let arguments = node.child_by_field_name("arguments")?;
    let mut cursor = arguments.walk();
    let mut arguments = arguments.named_children(&mut cursor);
    let name = arguments.next().filter(|name| matches!(name.kind(), "string" | "template_string"))?;
    arguments.any(|argument| matches!(argument.kind(), "arrow_function" | "function_expression")).then_some(name)
}

/// What nodes of this kind define, if they have a name.
fn definition_kind(language: Language, kind: &str) -> Option<Kind> {
    let (code, holders, others): (&[&str], &[&str], &[&str]) = match language {
        Language::Python => (&["function_definition"], &["class_definition"], &[]),
        Language::Rust => (
            &["function_item", "function_signature_item", "macro_definition"],
            &["struct_item", "enum_item", "trait_item", "union_item", "mod_item"],
            &["const_item", "static_item", "type_item"],
        ),
        Language::Go => (&["function_declaration", "method_declaration"], &["type_spec"], &["type_alias"]),
        Language::Java => (
            &["method_declaration", "constructor_declaration", "compact_constructor_declaration"],
            &["class_declaration", "interface_declaration", "enum_declaration", "record_declaration"],
            &["annotation_type_declaration"],
        ),
        Language::JavaScript | Language::TypeScript | Language::Tsx => (
            &[
                "function_declaration",
                "generator_function_declaration",
                "method_definition",
                "variable_declarator",
                "call_expression",
                "function_signature",
                "abstract_method_signature",
            ],
            &["class_declaration", "abstract_class_declaration", "interface_declaration", "enum_declaration"],
            &["type_alias_declaration"],
        ),
        Language::C | Language::Cpp => (
            &["function_definition", "preproc_function_def"],
            &["struct_specifier", "union_specifier", "enum_specifier", "class_specifier"],
            &["type_definition", "alias_declaration", "concept_definition"],
        ),
        Language::Ruby => (&["method", "singleton_method"], &["class", "module"], &[]),
        Language::Bash => (&["function_definition"], &[], &[]),
        Language::Json => (&[], &[], &[]),
    };
    let kinds = [(code, Kind::Code), (holders, Kind::Holder), (others, Kind::Other)];
    kinds.into_iter().find(|(names, _)| names.contains(&kind)).map(|(_, meaning)| meaning)
}

fn is_identifier(language: Language, node: Node<'_>) -> bool {
    if !node.is_named() || node.child_count() > 0 {
        return false;
    }
    match language {
        Language::Json => false,
        Language::Bash => node.kind() == "word" && node.parent().is_some_and(|parent| parent.kind() == "command_name"),
        Language::Ruby => matches!(node.kind(), "identifier" | "constant"),
        Language::C
        | Language::Cpp
        | Language::Go
        | Language::Java
        | Language::JavaScript
        | Language::Python
        | Language::Rust
        | Language::Tsx
        | Language::TypeScript => node.kind().ends_with("identifier"),
    }
}

/// The line of a definition without what only opens its body.
fn signature(line: &str) -> String {
    let line = line.trim().trim_end_matches(['{', ' ']).trim_end_matches(':').trim_end();
    clip(line, LONGEST_SIGNATURE)
}
