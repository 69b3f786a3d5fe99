pub fn tales() {}
