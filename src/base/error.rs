//! The one error of the library.

use std::fmt;

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong: a closed list that callers may match on.
///
/// The kinds that the kernel has a number for print the kernel's words, since scripts grep for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request itself is wrong: unknown command, wrong argument count, bad value.
    Usage,
    /// ENOENT.
    NotFound,
    /// EEXIST.
    Exists,
    /// ENOTDIR.
    NotADirectory,
    /// EISDIR.
    IsADirectory,
    /// ENOTEMPTY.
    NotEmpty,
    /// ENOSPC: the guest's file system (or the host's) is full.
    NoSpace,
    /// EROFS: mounted or opened read-only.
    ReadOnly,
    /// EINVAL.
    Invalid,
    /// ENAMETOOLONG.
    NameTooLong,
    /// ELOOP.
    TooManyLinks,
    /// EMLINK: the link count of a node is at its limit.
    LinkLimit,
    /// EXDEV: the operation would cross file systems.
    CrossDevice,
    /// EFBIG.
    FileTooBig,
    /// ENODATA: no such extended attribute.
    NoData,
    /// A file command without a mounted root.
    NotMounted,
    /// EBUSY, or an image that another program holds.
    Busy,
    /// EACCES or EPERM.
    Denied,
    /// Known or unknown structure that this program does not handle; nothing was changed.
    Unsupported,
    /// A structure on disk contradicts its specification.
    Corrupt,
    /// Stopped by Ctrl-C.
    Interrupted,
    /// The host could not read or write.
    Io,
    /// A bug in imgsh.
    Internal,
}

impl Kind {
    /// The words that Linux has for this kind.
    pub fn text(self) -> &'static str {
        match self {
            Kind::Usage | Kind::Invalid => "Invalid argument",
            Kind::NotFound => "No such file or directory",
            Kind::Exists => "File exists",
            Kind::NotADirectory => "Not a directory",
            Kind::IsADirectory => "Is a directory",
            Kind::NotEmpty => "Directory not empty",
            Kind::NoSpace => "No space left on device",
            Kind::ReadOnly => "Read-only file system",
            Kind::NameTooLong => "File name too long",
            Kind::TooManyLinks => "Too many levels of symbolic links",
            Kind::LinkLimit => "Too many links",
            Kind::CrossDevice => "Invalid cross-device link",
            Kind::FileTooBig => "File too large",
            Kind::NoData => "No data available",
            Kind::NotMounted => "you must call 'mount' first to mount the root filesystem",
            Kind::Busy => "Device or resource busy",
            Kind::Denied => "Permission denied",
            Kind::Unsupported => "Operation not supported",
            Kind::Corrupt => "Structure needs cleaning",
            Kind::Interrupted => "Interrupted",
            Kind::Io => "Input/output error",
            Kind::Internal => "internal error",
        }
    }
}

/// An error: kind, subject (path, device), what is wrong, and what to do next.
///
/// Displays as `subject: detail`, where the detail defaults to the kind's words. The command name
/// is put in front once, by whoever reports it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    subject: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with its own words: lower case, no full stop, the subject left to [`Error::at`].
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, subject: None, detail: Some(detail.into()), hint: None, source: None }))
    }

    /// Wrong use of a command or option.
    pub fn usage(detail: impl Into<String>) -> Self {
        Self::new(Kind::Usage, detail)
    }

    /// Damage: name structure, number and field ("ext4: inode 12: extent depth 9 is over 5").
    pub fn corrupt(detail: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, detail)
    }

    /// Something that is well-formed and not handled: name it and its bit.
    pub fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, detail)
    }

    /// A failed host operation on `subject`.
    pub fn io(subject: impl fmt::Display, source: std::io::Error) -> Self {
        Self::from(source).at(subject)
    }

    /// Names the subject (a path, a device) unless a deeper layer has named one already.
    #[must_use]
    pub fn at(mut self, subject: impl fmt::Display) -> Self {
        if self.0.subject.is_none() {
            self.0.subject = Some(subject.to_string());
        }
        self
    }

    /// Adds to what is wrong: where in the file, for example.
    #[must_use]
    pub fn with(mut self, words: impl fmt::Display) -> Self {
        let detail = self.0.detail.as_deref().unwrap_or(self.0.kind.text());
        self.0.detail = Some(format!("{detail}, {words}"));
        self
    }

    /// Adds what the user can do next, an instruction. The first hint stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if self.0.hint.is_none() {
            self.0.hint = Some(hint.into());
        }
        self
    }

    /// Puts a better hint in the place of the one that is there.
    #[must_use]
    pub fn hint_instead(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What went wrong, without the subject.
    pub fn detail(&self) -> &str {
        self.0.detail.as_deref().unwrap_or(self.0.kind.text())
    }

    /// The path or device that it happened to, if one was named.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// What the user can do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subject) = &self.0.subject {
            write!(f, "{subject}: ")?;
        }
        f.write_str(self.detail())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Error(Box::new(Inner { kind, subject: None, detail: None, hint: None, source: None }))
    }
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        // An error of ours that travelled through a `Read` or `Write` comes back as itself.
        let source = match source.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(source) => source,
        };
        let kind = match source.kind() {
            E::NotFound => Kind::NotFound,
            E::AlreadyExists => Kind::Exists,
            E::PermissionDenied => Kind::Denied,
            E::NotADirectory => Kind::NotADirectory,
            E::IsADirectory => Kind::IsADirectory,
            E::DirectoryNotEmpty => Kind::NotEmpty,
            E::StorageFull => Kind::NoSpace,
            E::ReadOnlyFilesystem => Kind::ReadOnly,
            E::InvalidFilename => Kind::NameTooLong,
            E::FileTooLarge => Kind::FileTooBig,
            E::Interrupted => Kind::Interrupted,
            E::ResourceBusy => Kind::Busy,
            _ => Kind::Io,
        };
        let mut error = Error::from(kind);
        if kind == Kind::Io {
            error.0.detail = Some(without_number(&source));
        }
        error.0.source = Some(Box::new(source));
        error
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::other(error)
    }
}

/// The words of an operating-system error without Rust's " (os error N)".
fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_and_words() {
        assert_eq!(Error::from(Kind::Exists).at("/d").to_string(), "/d: File exists");
        assert_eq!(Error::corrupt("bad magic").at("/dev/sda1").at("/x").to_string(), "/dev/sda1: bad magic");
    }

    #[test]
    fn our_error_survives_io() {
        let io: std::io::Error = Error::from(Kind::NoSpace).at("/big").into();
        let back = Error::from(io);
        assert_eq!((back.kind(), back.to_string().as_str()), (Kind::NoSpace, "/big: No space left on device"));
    }
}
