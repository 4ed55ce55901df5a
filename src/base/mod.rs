//! What every module needs and no format knows: errors, bytes, guest paths, time, sizes, UUIDs.

pub mod base64;
pub mod bytes;
pub mod crypt;
pub mod digest;
mod error;
pub mod holes;
pub mod json;
mod path;
pub mod progress;
pub mod size;
pub mod spelling;
mod time;
mod uuid;

pub use error::{Error, Kind, Result};
pub use path::{GuestPathBuf, Name, in_quotes, printable, quoted, without_secret};
pub use time::{MONTHS, Timestamp};
pub use uuid::Uuid;
