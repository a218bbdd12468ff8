//! Every mutation against the checker, on every model that can run guests.

use super::recorded::{self, Record};
use crate::checker::check;
use crate::controls::ControlSet;
use crate::mutation::{all, reference_image};
use crate::{Capabilities, VmcsImage};
use std::collections::BTreeSet;

fn reference(record: &Record) -> (Capabilities, ControlSet, VmcsImage) {
    let capabilities = record.capabilities();
    let setting = *capabilities
        .support()
        .expect("it is supported")
        .controls
        .setting();
    let image = reference_image(&capabilities, &setting);
    (capabilities, setting, image)
}

#[test]
fn the_reference_breaks_no_rule() {
    for record in recorded::usable() {
        let (capabilities, _, image) = reference(record);
        let complaints = check(&image, &capabilities);
        assert!(complaints.is_empty(), "{}:\n{complaints}", record.model);
        assert_eq!(complaints.failure(), None);
    }
}

#[test]
fn a_prepared_image_breaks_no_rule() {
    for record in recorded::usable() {
        let (capabilities, setting, image) = reference(record);
        for mutation in all().filter(|mutation| (mutation.applies)(&capabilities, &setting)) {
            let mut image = image.clone();
            mutation.prepare(&mut image, &capabilities);
            let complaints = check(&image, &capabilities);
            assert!(
                complaints.is_empty(),
                "{}: {}:\n{complaints}",
                record.model,
                mutation.name
            );
        }
    }
}

#[test]
fn a_broken_field_is_blamed_and_no_other() {
    for record in recorded::usable() {
        let (capabilities, setting, image) = reference(record);
        let mut tried = 0;
        for mutation in all().filter(|mutation| (mutation.applies)(&capabilities, &setting)) {
            let mut image = image.clone();
            mutation.prepare(&mut image, &capabilities);
            let before = image.get(mutation.field);
            mutation.apply(&mut image, &capabilities);
            let context = format!("{}: {}", record.model, mutation.name);
            assert_ne!(
                image.get(mutation.field),
                before,
                "{context}: nothing has changed"
            );
            let complaints = check(&image, &capabilities);
            assert!(complaints.blame(mutation.blame), "{context}:\n{complaints}");
            for complaint in complaints.iter() {
                assert_eq!(complaint.field, mutation.blame, "{context}:\n{complaints}");
            }
            assert_eq!(
                complaints.failure(),
                Some(mutation.failure),
                "{context}:\n{complaints}"
            );
            tried += 1;
        }
        assert!(tried >= 130, "{}: {tried} mutations apply", record.model);
    }
}

#[test]
fn every_mutation_applies_somewhere_and_names_are_unique() {
    let mut names = BTreeSet::new();
    for mutation in all() {
        assert!(names.insert(mutation.name), "{} twice", mutation.name);
        let somewhere = recorded::usable().any(|record| {
            let (capabilities, setting, _) = reference(record);
            (mutation.applies)(&capabilities, &setting)
        });
        assert!(somewhere, "{} applies to no model", mutation.name);
    }
}
