-- weft inspect 1
-- Answers the record as fence does, and writes nothing.
-- KEYS: the record.
return describe(KEYS[1])
