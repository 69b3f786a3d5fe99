//! See `programs::prompts`.
#![cfg_attr(any(target_os = "none", target_family = "wasm"), no_std, no_main)]

firmware::program!(firmware::programs::prompts::Prompts);
