//! What can be wrong with bytes of the format, told by what the reader must do.

use thiserror::Error;

use super::{
    Codec, FORMAT_VERSION, PartDigest,
    rules::{Object, Rule},
};
use crate::error::{InvalidName, Kind};

/// Why bytes are refused.
#[derive(Debug, Error)]
pub enum FormatError {
    /// More bytes than any valid object of this kind has.
    #[error("{object} has {len_bytes} bytes; at most {max_bytes} are allowed")]
    TooLarge {
        /// What was read or written.
        object: Object,
        /// Its length.
        len_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// Not a JSON line and a checksum line, each ended by a newline.
    #[error("{object} is not two lines ended by newlines")]
    NotTwoLines {
        /// What was read.
        object: Object,
    },
    /// The second line is not the checksum line of the first.
    #[error("{object} does not match its checksum line")]
    ChecksumLine {
        /// What was read.
        object: Object,
    },
    /// Written by a version of the format that this program does not know.
    #[error("{object} has format_version {found}; this program reads {FORMAT_VERSION} only")]
    UnknownVersion {
        /// What was read.
        object: Object,
        /// The version it names.
        found: u64,
    },
    /// The checksum holds but the JSON is not an object of this kind.
    #[error("{object} is not well-formed")]
    Json {
        /// What was read.
        object: Object,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Well-formed, but not byte for byte what this program would write for the same content.
    #[error("{object} is not in canonical form")]
    NotCanonical {
        /// What was read.
        object: Object,
    },
    /// A rule of the format is broken.
    #[error("{object} breaks a rule: {rule}")]
    Rule {
        /// What was read or is to be written.
        object: Object,
        /// The rule.
        rule: Rule,
    },
    /// An object name that is not one of docs/FORMAT.md.
    #[error("{name:?} is not an object name of this format")]
    Name {
        /// The name, cut to 200 characters.
        name: String,
    },
    /// A word of the domain breaks its own rule.
    #[error("{object} names something illegal")]
    Domain {
        /// What was read or is to be written.
        object: Object,
        /// What is illegal.
        #[source]
        source: InvalidName,
    },
    /// A compression level outside the codec's range.
    #[error("compression level {level} is out of range for {codec}; it must be {min} to {max}")]
    Level {
        /// The codec.
        codec: Codec,
        /// The level asked for.
        level: i32,
        /// Least level.
        min: i32,
        /// Greatest level.
        max: i32,
    },
    /// The compressor failed, which needs a broken library or no memory.
    #[error("{codec} could not compress a block of {raw_len_bytes} bytes")]
    Compress {
        /// The codec.
        codec: Codec,
        /// Length of the block.
        raw_len_bytes: usize,
    },
    /// The stored bytes of a block are not as long as the manifest says.
    #[error("block has {found_bytes} stored bytes, its manifest says {expected_bytes}")]
    BlockLength {
        /// What the manifest says.
        expected_bytes: u32,
        /// What was read.
        found_bytes: usize,
    },
    /// The stored bytes of a block are not what was written.
    #[error("block has CRC32 {found:08x}, its manifest says {expected:08x}")]
    BlockCrc {
        /// What the manifest says.
        expected: u32,
        /// What was read.
        found: u32,
    },
    /// The stored bytes are as written, but do not decompress.
    #[error("block is not one whole {codec} member")]
    BlockUndecodable {
        /// The codec.
        codec: Codec,
    },
    /// A block decompresses to another length than the manifest says.
    #[error("block decompresses to another length than {expected_bytes} bytes")]
    BlockRawLength {
        /// What the manifest says.
        expected_bytes: u32,
    },
    /// The raw bytes of a part are not what the manifest says.
    #[error("part {part_id} has digest {found}, its manifest says {expected}")]
    PartDigest {
        /// Which part.
        part_id: String,
        /// What the manifest says.
        expected: Box<PartDigest>,
        /// What was read.
        found: Box<PartDigest>,
    },
    /// Raw bytes for a part that is not expected now: parts come in header order, omitted parts not at all.
    #[error("bytes of part {found} came where part {expected} was expected")]
    PartOrder {
        /// First part that may come now, 0-based.
        expected: u32,
        /// Part that came.
        found: u32,
    },
    /// A part has more or fewer raw bytes than announced.
    #[error("part {part} has {found_bytes} bytes or more, {expected_bytes} were announced")]
    PartSize {
        /// Which part, 0-based.
        part: u32,
        /// Announced size.
        expected_bytes: u64,
        /// Bytes that came.
        found_bytes: u64,
    },
}

impl FormatError {
    /// What the caller must do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotTwoLines { .. }
            | Self::ChecksumLine { .. }
            | Self::BlockLength { .. }
            | Self::BlockCrc { .. }
            | Self::BlockUndecodable { .. }
            | Self::BlockRawLength { .. }
            | Self::PartDigest { .. } => Kind::Corrupt,
            Self::TooLarge { .. }
            | Self::UnknownVersion { .. }
            | Self::Json { .. }
            | Self::NotCanonical { .. }
            | Self::Rule { .. }
            | Self::Name { .. }
            | Self::Domain { .. }
            | Self::Level { .. }
            | Self::PartOrder { .. }
            | Self::PartSize { .. } => Kind::Invalid,
            Self::Compress { .. } => Kind::Internal,
        }
    }
}
