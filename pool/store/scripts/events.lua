-- The log after a cursor. What has been lost comes first: reading goes on after the cursor `lost`.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; ""; 0; epoch of the cursor, its place; how many events
-- Answers: nil (there is no such session); lost (epoch, place) or nil, batches
local AT_EPOCH, AT_SEQ, LIMIT = ROW[4], ROW[5], ROW[6]
local CHUNK = 16

if not it then
  return nil
end
local end_epoch, end_seq, newest = it.end_epoch, it.end_seq, it.epoch
local base = call('HGET', SESSION, 'b')
local length = call('LLEN', LOG)
local base_epoch, base_seq = 0, 0
if length == 0 then
  base_epoch, base_seq = end_epoch, end_seq
elseif base then
  local epoch, seq = string.match(base, '^(%d+)%-(%d+)$')
  base_epoch, base_seq = tonumber(epoch), tonumber(seq)
end
if end_seq == 0 then
  base_epoch = 0
end

-- the first batch (from 0; `length`: none) of which the test is true; it stays true behind that one
local function first_batch(test)
  local low, high = 0, length
  while low < high do
    local middle = math.floor((low + high) / 2)
    if test(header(call('LINDEX', LOG, middle))) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local function batch_behind(seq)
  return first_batch(function(_, last)
    return last > seq
  end)
end

-- the last epoch up to the asked one that has anything here, and where it ended
local function end_of(asked)
  local index = first_batch(function(epoch)
    return epoch > asked
  end) - 1
  if index >= 0 then
    local epoch, last = header(call('LINDEX', LOG, index))
    return epoch, last
  elseif base_epoch == asked then
    return base_epoch, base_seq
  end
end

local function lost_after(epoch, seq)
  if seq < base_seq then
    return base_epoch, base_seq
  elseif seq == 0 or epoch == newest or (epoch == end_epoch and seq <= end_seq) then
    return nil
  elseif seq == base_seq and epoch == base_epoch then
    return nil
  end
  local known, last = end_of(epoch)
  if known == epoch and seq <= last then
    return nil
  elseif known == epoch or (known and epoch < newest) then
    -- whoever wrote in the asked epoch did not get so far, or was gone before it wrote anything
    return known, last
  end
  return base_epoch, base_seq
end

local lost_epoch, lost_seq = lost_after(AT_EPOCH, AT_SEQ)
local after = lost_seq or AT_SEQ
local found = {}
if after < end_seq then
  local index = batch_behind(after)
  local got = after
  while index < length and got - after < LIMIT do
    for _, batch in ipairs(call('LRANGE', LOG, index, index + CHUNK - 1)) do
      if got - after < LIMIT then
        found[#found + 1] = batch
        local _, last = header(batch)
        got = last
      end
    end
    index = index + CHUNK
  end
end
return {lost_epoch or false, lost_seq or false, found}
