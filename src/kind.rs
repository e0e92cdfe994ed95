//! How the raw data of a point is read: its type, and the order of its bytes.

/// The type of a point's raw data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A coil, a discrete input, or one bit of a register.
    Bool,
    /// The low byte of one register, signed.
    I8,
    /// The low byte of one register.
    U8,
    /// One register, signed.
    I16,
    /// One register.
    U16,
    /// The low 24 bits of two registers, signed.
    I24,
    /// The low 24 bits of two registers.
    U24,
    /// Two registers, signed.
    I32,
    /// Two registers.
    U32,
    /// Four registers, signed.
    I64,
    /// Four registers.
    U64,
    /// Two registers, IEEE 754 binary32.
    F32,
    /// Four registers, IEEE 754 binary64.
    F64,
    /// One register, four decimal digits.
    Bcd16,
    /// Two registers, eight decimal digits.
    Bcd32,
    /// So many bytes of text, up to the first NUL, trailing blanks cut.
    String {
        /// Bytes, 1 to 250.
        length: u16,
    },
}

impl Kind {
    /// Every type, as the configuration spells it; `string` has its length beside it.
    pub const NAMES: [&'static str; 15] = [
        "bool", "i8", "u8", "i16", "u16", "i24", "u24", "i32", "u32", "i64", "u64", "f32", "f64", "bcd16",
        "bcd32",
    ];

    /// The type's name in configuration and `info`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I24 => "i24",
            Self::U24 => "u24",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Bcd16 => "bcd16",
            Self::Bcd32 => "bcd32",
            Self::String { .. } => "string",
        }
    }

    /// The type of that name; `length` is used by `string` alone.
    #[must_use]
    pub fn parse(name: &str, length: u16) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "i8" => Self::I8,
            "u8" => Self::U8,
            "i16" => Self::I16,
            "u16" => Self::U16,
            "i24" => Self::I24,
            "u24" => Self::U24,
            "i32" => Self::I32,
            "u32" => Self::U32,
            "i64" => Self::I64,
            "u64" => Self::U64,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "bcd16" => Self::Bcd16,
            "bcd32" => Self::Bcd32,
            "string" => Self::String { length },
            _ => return None,
        })
    }

    /// How many 16-bit registers it takes.
    #[must_use]
    pub fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::I8 | Self::U8 | Self::I16 | Self::U16 | Self::Bcd16 => 1,
            Self::I24 | Self::U24 | Self::I32 | Self::U32 | Self::F32 | Self::Bcd32 => 2,
            Self::I64 | Self::U64 | Self::F64 => 4,
            Self::String { length } => length.div_ceil(2),
        }
    }
}

impl Kind {
    /// How many bytes it takes in a layout of bytes.
    #[must_use]
    pub fn bytes(self) -> u16 {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::Bcd16 => 2,
            Self::I24 | Self::U24 => 3,
            Self::I32 | Self::U32 | Self::F32 | Self::Bcd32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
            Self::String { length } => length,
        }
    }
}

/// How the bytes of a value stand in its registers; A is the most significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// As Modbus has it: most significant word and byte first.
    #[default]
    Abcd,
    /// Words reversed.
    Cdab,
    /// Bytes of each word swapped.
    Badc,
    /// Both.
    Dcba,
}

impl Order {
    /// The order of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ABCD" => Self::Abcd,
            "CDAB" => Self::Cdab,
            "BADC" => Self::Badc,
            "DCBA" => Self::Dcba,
            _ => return None,
        })
    }

    /// The bytes of each word are swapped.
    #[must_use]
    pub fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }

    /// The words are reversed.
    #[must_use]
    pub fn reverses_words(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }
}
