-- What changes the documents of a kind.
--
-- KEYS: 1 ap:{p}:docs:<kind>         HASH id = document
--       2 ap:{p}:docs:<kind>:ids     ZSET ids, all with the score 0: in their own order
--       3 ap:{p}:docs:<kind>:changes STRING a number that only grows

local function file(id, document)
  call('HSET', KEYS[1], id, document)
  call('ZADD', KEYS[2], 0, id)
end

local function count_change()
  -- what a failover lost is not counted again as the same number
  local changes = tonumber(call('GET', KEYS[3])) or 0
  call('SET', KEYS[3], int(math.max(changes + 1, now)))
end
