//! Files of version 1 become files of version 2 that compute the same.

use samara::export::convert::{ConvertError, convert};

use super::*;

const OLD: &[u8] = include_bytes!("../../golden/device/version-1.samara");

/// The old file with other bytes and the right checksum.
fn repaired(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn what_is_converted_is_what_is_exported() {
    let spec = FileSpec { train: Tune::LastBlock, optimizer: Optimizer::Adamw, kv: DType::F16, ..PLAIN };
    let tokenizer = Tokenizer::characters(["abcde"], &[]).expect("a tokenizer");
    let exported = export(TINY, spec, Some(&tokenizer));
    let converted = convert(OLD).expect("a file of version 1");
    assert!(converted == exported.bytes(), "{} and {} bytes", converted.len(), exported.bytes().len());
    assert_eq!(convert(&converted), Err(ConvertError::Current));
}

#[test]
fn an_old_file_names_the_command_that_converts_it() {
    let (file, kernels) = (File::new(OLD), ops::training());
    let error = file.error(&kernels);
    assert_eq!(error, FileError::Version { found: 1 });
    assert!(error.to_string().contains("samara export --convert FILE --out FILE"), "{error}");
}

#[test]
fn every_prefix_of_an_old_file_is_refused() {
    let wrong = |len: usize| convert(&OLD[..len]).expect_err("an error");
    assert!((0..8).all(|len| wrong(len) == ConvertError::Magic));
    assert!((8..OLD.len()).all(|len| matches!(wrong(len), ConvertError::Length { found, .. } if found == len)));
    // Also when it says that it is all, and its checksum is right.
    for len in (64..OLD.len()).step_by(61) {
        let mut bytes = OLD[..len].to_vec();
        bytes[16..20].copy_from_slice(&(len as u32).to_le_bytes());
        assert!(convert(&repaired(bytes)).is_err(), "{len} bytes");
    }
}

#[test]
fn every_changed_bit_of_an_old_file_is_refused() {
    let mut bytes = OLD.to_vec();
    for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))).step_by(3) {
        bytes[at] ^= 1 << bit;
        assert!(convert(&bytes).is_err(), "bit {bit} of byte {at}");
        bytes[at] ^= 1 << bit;
    }
}

#[test]
fn faults_of_old_files_have_their_names() {
    let with = |at: usize, value: u32| {
        let mut bytes = OLD.to_vec();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        convert(&repaired(bytes)).expect_err("an error")
    };
    let entry = |entry: usize| 64 + 16 * entry;
    assert_eq!(with(8, 7), ConvertError::Version { found: 7 });
    assert_eq!(with(16, 5), ConvertError::Length { found: OLD.len(), expected: 5 });
    assert!(matches!(with(20, 100_000), ConvertError::Section { .. }), "a table that leads out of the file");
    assert_eq!(with(32, 8), ConvertError::Records { kind: SectionKind::Trainable }, "half a unit");
    // Kinds of version 2, an unknown program, a place outside, and an entry that is there already.
    for (at, value) in [(entry(1), 18), (entry(1), 99), (entry(1) + 4, 7), (entry(1) + 8, u32::MAX), (entry(1), 1)] {
        assert_eq!(with(at, value), ConvertError::Section { entry: 1 }, "{value} at {at}");
    }
    assert!(matches!(with(36, 64), ConvertError::Refused(FileError::Content { kind: SectionKind::Frozen, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Damage that a right checksum hides is an error or gives a file that opens.
    #[test]
    fn damage_to_an_old_file_is_refused_or_harmless(edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = OLD.to_vec();
        for (place, value) in edits {
            let at = place.index(bytes.len());
            bytes[at] ^= value;
        }
        if let Ok(converted) = convert(&repaired(bytes)) {
            let (file, kernels) = (File::new(&converted), ops::reference());
            prop_assert!(file.open(&kernels).is_ok());
        }
    }
}
