// A folder without sources yet still needs one translation unit.
