//! `assign`.

use super::*;

/// A matrix as NumPy writes it.
fn npy(shape: &[usize], values: &[f64]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}");
    header += &" ".repeat(63 - (header.len() + 10) % 64);
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[test]
fn assign_reads_matrices_and_says_where_they_are_bad() {
    let folder = temporary();
    let at = folder.path();
    fs::write(at.join("a.csv"), "4, 1, 3\n2, 0, 5\n3, 2, 2\n").expect("file");
    fs::write(at.join("a.npy"), npy(&[3, 3], &[4.0, 1.0, 3.0, 2.0, 0.0, 5.0, 3.0, 2.0, 2.0])).expect("file");
    let expected = serde_json::json!({"rows": [0, 1, 2], "columns": [1, 0, 2], "total": 5.0});
    for file in ["a.csv", "a.npy"] {
        let found: Value = serde_json::from_str(&done(at, &["assign", file, "--json"])).expect("JSON");
        assert_eq!(found, expected, "{file}");
        let found: Value = serde_json::from_str(&done(at, &["assign", file, "--json", "--duals"])).expect("JSON");
        let sum = |key: &str| found[key].as_array().expect("duals").iter().filter_map(Value::as_f64).sum::<f64>();
        assert_eq!(sum("row_duals") + sum("column_duals"), 5.0, "{found}");
    }
    assert!(done(at, &["assign", "a.csv"]).contains("total 5"));
    let found: Value =
        serde_json::from_str(&done(at, &["assign", "a.csv", "--maximize", "--ties=scipy", "--json"])).expect("JSON");
    assert_eq!(found["total"], 11.0);
    let found: Value = serde_json::from_str(&done(at, &["assign", "a.csv", "--cost-limit", "1.5", "--json"])).expect("JSON");
    assert_eq!(found, serde_json::json!({"rows": [1], "columns": [1], "total": 0.0}));

    for (name, content, parts) in [
        ("word.csv", "1,2\n3,x4\n", &["word.csv:2:3", "expected a number", "\"x4\""][..]),
        ("short.csv", "1,2\n3\n", &["short.csv:2:1", "expected 2 numbers", "found 1"]),
        ("semicolons.csv", "1;2\n1 2\n", &["semicolons.csv:2:1", "expected numbers between semicolons", "found spaces"]),
        ("empty.csv", "# none\n", &["empty.csv: expected rows of numbers, found none"]),
        ("headings.csv", "ann,bob\n1,2\n", &["headings.csv:1:1", "\"ann\"", "--skip-rows 1"]),
        ("nan.csv", "1,2\n\n3,nan\n", &["nan.csv:3: ", "row 1, column 1", "NaN", "--dirty forbid"]),
        ("full.csv", "inf,inf\n3,4\n", &["full.csv", "cost matrix is infeasible: row 0", "--dirty forbid"]),
    ] {
        fs::write(at.join(name), content).expect("file");
        refused(at, &["assign", name], 3, parts);
    }
    assert!(done(at, &["assign", "headings.csv", "--skip-rows", "1"]).contains("total 1\n"));
    refused(
        at,
        &["assign", "a.npy", "--skip-rows", "1"],
        3,
        &["a.npy: expected a text file, because --skip-rows is set, found an array"],
    );
    refused(at, &["assign", "a.csv", "--cost-limit", "nan"], 2, &["--cost-limit: expected a number, found NaN"]);
    // What the errors advise is what helps.
    for (name, pairs) in [("nan.csv", [[0, 1], [1, 0]].as_slice()), ("full.csv", &[[1, 0]])] {
        let found: Value = serde_json::from_str(&done(at, &["assign", name, "--dirty", "forbid", "--json"])).expect("JSON");
        let column = |k: usize| -> Vec<i32> { pairs.iter().map(|pair| pair[k]).collect() };
        assert_eq!((&found["rows"], &found["columns"]), (&column(0).into(), &column(1).into()), "{name}");
    }
    refused(
        at,
        &["assign", "a.csv", "--ties", "scipy", "--cost-limit", "1"],
        2,
        &["--ties", "--cost-limit", "cannot be used with"],
    );
    refused(at, &["assign", "a.csv", "--ties", "first"], 2, &["first", "any, scipy"]);
    refused(at, &["assign", "a.csv", "--cost-limit", "much"], 2, &["--cost-limit", "much"]);
    let help = done(at, &["assign", "--help"]);
    for flag in ["--maximize", "--cost-limit", "--ties", "--dirty", "--duals", "--json", "Examples:"] {
        assert!(help.contains(flag), "{help}");
    }
    let rows: Value = serde_json::from_str(&done(at, &["bench", "assign", "--repeats", "1", "--json"])).expect("JSON");
    let names: Vec<&str> = rows.as_array().expect("rows").iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(names.contains(&"low-rank 400x400, ties as scipy") && names.contains(&"uniform 100x7"), "{names:?}");
    fs::write(at.join("line.npy"), npy(&[3], &[1.0, 2.0, 3.0])).expect("file");
    refused(at, &["assign", "line.npy"], 3, &["line.npy", "expected a matrix (2-D array), got a 1-D array"]);
    let whole = npy(&[3, 3], &[1.0; 9]);
    fs::write(at.join("cut.npy"), &whole[..whole.len() - 8]).expect("file");
    let output = samara(at, &["assign", "cut.npy"]);
    assert!(output.status.code() != Some(0) && text(&output.stderr).contains("cut.npy"), "{}", text(&output.stderr));
    assert!(!samara(at, &["assign", "none.csv"]).status.success());
}

/// An array of 64-bit integers as numpy.save writes it.
fn npy_of_integers(shape: &[usize], values: &[i64]) -> Vec<u8> {
    let floats: Vec<f64> = values.iter().map(|&x| f64::from_bits(x as u64)).collect();
    let mut bytes = npy(shape, &floats);
    let at = bytes.windows(3).position(|word| word == b"<f8").expect("a type");
    bytes[at + 1] = b'i';
    bytes
}

#[test]
fn assign_adds_integers_exactly() {
    let folder = temporary();
    let at = folder.path();
    let large = 1_i64 << 60;
    let near = [large, large + 1, large + 1, large];
    fs::write(at.join("near.npy"), npy_of_integers(&[2, 2], &near)).expect("file");
    let lines = format!("{},{}\n{},{}\n", near[0], near[1], near[2], near[3]);
    fs::write(at.join("near.csv"), lines).expect("file");
    for file in ["near.npy", "near.csv"] {
        let found: Value = serde_json::from_str(&done(at, &["assign", file, "--json", "--duals"])).expect("JSON");
        assert_eq!((&found["columns"], &found["total"]), (&serde_json::json!([0, 1]), &serde_json::json!(2 * large)), "{file}");
        let duals = |key: &str| -> Vec<i64> { found[key].as_array().expect("duals").iter().filter_map(Value::as_i64).collect() };
        let (u, v) = (duals("row_duals"), duals("column_duals"));
        assert_eq!(u.iter().chain(&v).sum::<i64>(), 2 * large, "{found}");
        assert!((0..4).all(|k| u[k / 2] + v[k % 2] <= near[k]), "{found}");
        let most: Value = serde_json::from_str(&done(at, &["assign", file, "--json", "--maximize"])).expect("JSON");
        assert_eq!((&most["columns"], &most["total"]), (&serde_json::json!([1, 0]), &serde_json::json!(2 * large + 2)));
    }
    assert!(done(at, &["assign", "near.npy"]).contains("total 2305843009213693952\n"));
    // More rows than columns: the duals of the columns take what the costs have in common.
    fs::write(at.join("tall.npy"), npy_of_integers(&[3, 1], &[large + 2, large, large + 1])).expect("file");
    let found: Value = serde_json::from_str(&done(at, &["assign", "tall.npy", "--json", "--duals"])).expect("JSON");
    let expected = serde_json::json!({"rows": [1], "columns": [0], "total": large, "row_duals": found["row_duals"], "column_duals": found["column_duals"]});
    assert_eq!(found, expected);
    let sum = |key: &str| found[key].as_array().expect("duals").iter().filter_map(Value::as_i64).sum::<i64>();
    assert_eq!(sum("row_duals") + sum("column_duals"), large, "{found}");

    fs::write(at.join("far.npy"), npy_of_integers(&[2, 2], &[large, -large, 0, large])).expect("file");
    let next = ["far.npy", "expected integers whose sums fit into 64 bits", "divide all costs", "float64"];
    refused(at, &["assign", "far.npy"], 3, &next);
    refused(at, &["assign", "near.npy", "--cost-limit", "0.5"], 2, &["--cost-limit: expected an integer", "found 0.5"]);
    // A limit that is no integer counts as it is: two pairs of cost 1 gain less than one of cost 0.
    fs::write(at.join("small.npy"), npy_of_integers(&[2, 2], &[0, 1, 1, 9])).expect("file");
    for (limit, rows) in [("1.5", vec![0]), ("3", vec![0, 1]), ("-1", vec![])] {
        let found = done(at, &["assign", "small.npy", "--cost-limit", limit, "--ties", "any", "--json"]);
        let found: Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found["rows"], serde_json::json!(rows), "{limit}");
    }
    // A transposed array, which numpy.save writes in Fortran order: [[9, 1, 9], [2, 9, 9]].
    let mut transposed = npy_of_integers(&[2, 3], &[9, 2, 1, 9, 9, 9]);
    let word = transposed.windows(5).position(|word| word == b"False").expect("an order");
    transposed.splice(word..word + 5, *b"True ");
    fs::write(at.join("transposed.npy"), transposed).expect("file");
    let found: Value = serde_json::from_str(&done(at, &["assign", "transposed.npy", "--json"])).expect("JSON");
    assert_eq!(found, serde_json::json!({"rows": [0, 1], "columns": [1, 0], "total": 3}));
    // The largest integer forbids a pair.
    fs::write(at.join("forbidden.npy"), npy_of_integers(&[2, 2], &[i64::MAX, large, large + 5, large])).expect("file");
    let found: Value = serde_json::from_str(&done(at, &["assign", "forbidden.npy", "--json"])).expect("JSON");
    assert_eq!((&found["columns"], &found["total"]), (&serde_json::json!([1, 0]), &serde_json::json!(2 * large + 5)));
}

#[test]
fn assign_knows_files_by_their_content() {
    let folder = temporary();
    let at = folder.path();
    let array = npy(&[2, 2], &[4.0, 1.0, 2.0, 0.0]);
    let zipped = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    for (name, content) in [
        ("costs", array.clone()),
        ("COSTS.NPY", array.clone()),
        ("costs.csv", zipped(&array)),
        ("costs.gz", zipped(b"# a day's\n4.0e+00 1\n2 0.0e+00\n")),
    ] {
        fs::write(at.join(name), content).expect("file");
        let found: Value = serde_json::from_str(&done(at, &["assign", name, "--json"])).expect("JSON");
        assert_eq!(found, serde_json::json!({"rows": [0, 1], "columns": [1, 0], "total": 3.0}), "{name}");
    }
}

#[test]
fn assign_writes_numbers_that_json_cannot_hold_as_strings() {
    let folder = temporary();
    let at = folder.path();
    fs::write(at.join("huge.csv"), "1e308,1e308\n1e308,1e308\n").expect("file");
    let found: Value = serde_json::from_str(&done(at, &["assign", "huge.csv", "--json", "--duals"])).expect("JSON");
    assert_eq!(found["total"], "Infinity");
    assert!(found["row_duals"].as_array().expect("duals").iter().all(Value::is_number), "{found}");
    assert!(done(at, &["assign", "huge.csv"]).ends_with("total inf\n"));
    fs::write(at.join("low.csv"), "-1e308,-1e308\n-1e308,-1e308\n").expect("file");
    let found: Value = serde_json::from_str(&done(at, &["assign", "low.csv", "--json"])).expect("JSON");
    assert_eq!(found["total"], "-Infinity");
}
