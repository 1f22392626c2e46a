//! The EDN reader: any bytes are read or refused, and what is read prints back to itself.

#![no_main]

use annals::edn;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match edn::read_all(text) {
        Ok(forms) => {
            for form in forms {
                assert!(form.span.start <= form.span.end && form.span.end as usize <= text.len());
                let value = form.into_value();
                let printed = edn::print(&value);
                let again = edn::read_value(&printed).expect("what is printed can be read");
                assert_eq!(again, value, "{printed}");
                assert_eq!(edn::print(&again), printed);
            }
        }
        Err(errors) => {
            assert!(!errors.0.is_empty(), "a refusal says why");
            for label in errors.0.iter().flat_map(|d| &d.labels) {
                assert!(text.get(label.span.start as usize..label.span.end as usize).is_some(), "{label:?}");
            }
        }
    }
});
