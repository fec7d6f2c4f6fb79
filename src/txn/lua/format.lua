-- The format of records. A proxy that finds another one knows nothing of what it says, and leaves it to those that do.
local FORMAT = '1'
