//! Answers of commands.

/// What a command answers; how it is printed is the renderer's business.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Nothing,
    /// A truth.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number that people read in octal (`umask`).
    Octal(i64),
    /// A number that people read in hex (`part-get-mbr-id`).
    Hex(i64),
    /// Text.
    Text(Vec<u8>),
    /// Strings.
    List(Vec<Vec<u8>>),
    /// Pairs, in order.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// A record.
    Struct(Record),
    /// Records.
    Structs(Vec<Record>),
    /// Records that people read as a table.
    Table(Table),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A request to whoever runs the lines.
    Control(Control),
}

/// A record: field names and values in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record(pub Vec<(&'static str, Field)>);

/// Records with the same fields, a row each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The rows.
    pub rows: Vec<Record>,
    /// What stands below the table, for people only.
    pub note: Option<String>,
    /// Printed as JSON whatever the shell prints else.
    pub json: bool,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// Signed or unsigned decimal.
    Int(i128),
    /// Bytes as text.
    Text(Vec<u8>),
    /// Bytes that need not be text (values of extended attributes): others than printable ASCII show as `\xhh`.
    Bytes(Vec<u8>),
    /// One character.
    Char(char),
    /// What this record does not have: nothing in a table, `()` in a script, `null` in JSON.
    Nothing,
    /// A percentage, `-1` and missing print as nothing.
    Percent(Option<f64>),
}

/// What only the shell itself can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Stop reading lines.
    Quit,
    /// Run the command for every expansion of the words that hold patterns.
    Glob(Vec<Vec<u8>>),
    /// Run the command and print how long it took.
    Time(Vec<Vec<u8>>),
    /// Run the command; succeed if it fails.
    Not(Vec<Vec<u8>>),
    /// Register a handler: name, set of events, script.
    Event(String, String, String),
    /// Forget the handlers of a name.
    DeleteEvent(String),
    /// Print the handlers.
    ListEvents,
    /// Begin anew: a session without disks.
    Reopen,
    /// Print help as these words ask: on a command, the list, a search.
    Help(Vec<String>),
    /// Call a function of the script library with these options (a command written in Rhai).
    Script {
        /// `std/vtorque`.
        module: &'static str,
        /// A function of one parameter, the map of options.
        function: &'static str,
        /// Options as text.
        options: Vec<(String, String)>,
    },
}

impl Value {
    /// Text from a string.
    pub fn text(text: impl Into<String>) -> Self {
        Value::Text(text.into().into_bytes())
    }

    /// A list from strings.
    pub fn list<T: Into<Vec<u8>>>(items: impl IntoIterator<Item = T>) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}
