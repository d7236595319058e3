-- What every script about one session has behind common.lua.
--
-- KEYS, all of one partition {p} and so of one slot; <s> is ap:{p}:s:<tenant>:<session id>
--   1 <s>          HASH  the session; it is there as long as this key is:
--       c, u       when it was made and last used, in microseconds
--       n, g       how many turns it has accepted, and how many of their records are gone
--       q          ids of its unfinished turns, in the order of acceptance, with spaces between
--       i, t       what it was made with (msgpack), its own time to live in ms; absent: nothing
--       o, e, h    last holder, its epoch, and whether it holds the session now (1 or 0)
--       le, ls     the end of the log: epoch and place of the newest event
--       b          <epoch>-<place> of the newest event that was dropped; absent: none was
--       d          how many entries of the transcript were dropped
--       l, lr      how many letters there have been, and how many of them were read
--       r          when its upkeep was done last, in microseconds
--       s, w       1: agents keep states; somebody watches
--       k:<key>    idempotency key: 16 bytes of digest, then the turn's id
--   2 <s>:ids      LIST  ids of all turns that have a record
--   3 <s>:said     LIST  the transcript, an entry a turn that spoke
--   4 <s>:states   HASH  what agents keep: <agent> = <version> <seen> <parts> <format>, and
--                        <agent>:1 to <agent>:<parts>, which are joined
--   5 <s>:log      LIST  a batch of events each: >I8 epoch, >I8 place of its last event, >I4 time in
--                        seconds, then the events
--   6 <s>:inbox    LIST  letters for the holder: +<number>:<id> of a turn that has arrived, or a
--                        signal (msgpack)
--   7 <s>:watch    SET   who watches the log
--   8 ap:{p}:work  HASH  <tenant>:<session id> of each session with unfinished turns = its holder,
--                        or ""
--   9 ap:{p}:alive HASH  owner = until when its leases hold, in ms
-- A turn, ap:{p}:t:<turn id>, is a STRING: U (unfinished), P (the same, and passed on: whatever its
-- record says it is queued and was never tried) or E (ended); the place before its first event as
-- >I8 epoch and >I8 place (zeros: it has none yet); >I4 its number in its session; its record.
-- What an unfinished turn has besides, ap:{p}:x:<turn id>, is a HASH: d:<question> = decided, and
-- its checkpoint, laid out as a state, under the name check.
--
-- An idle session expires (1; its log and its turns by themselves too). What else it had is taken
-- away when somebody finds that it is gone (unlist.lua), or makes it anew. With an unfinished turn
-- nothing of it expires.
--
-- Lists and not streams: a stream takes 4 KiB from its first entry on, and what is stale is refused
-- here anyway.
--
-- ARGV: 1 <tenant>:<session id>  2 owner, or ""  3 its epoch (of scripts that claim: see there)

local SESSION, IDS, SAID, STATES, LOG, INBOX, WATCH, WORK, ALIVE = unpack(KEYS, 1, 9)
local NAME, OWNER, EPOCH = ARGV[1], ARGV[2], ARGV[3]
local PARTS_MAX = 64
local NOWHERE = string.rep('\0', 16)
-- the last byte before a turn's record
local HEAD_END = 20

local function fields(...)
  return unpack(call('HMGET', SESSION, ...))
end

-- --- owners

local function lives(owner)
  local till = call('HGET', ALIVE, owner)
  return till and tonumber(till) > now
end

local function seen(owner)
  call('HSET', ALIVE, owner, now + LEASE_MS)
end

local function holder_of(owner, held)
  return held == '1' and lives(owner) and owner or ''
end

-- `since`: an epoch from before may have been given by a server that has forgotten it
local function later_epoch(last, since)
  return int(math.max((tonumber(last) or 0) + 1, now, tonumber(since) or 0))
end

local function tell(owner, kind)
  call('PUBLISH', PREFIX .. ':to:' .. owner, kind .. ' ' .. NAME)
end

local function offer()
  call('HSET', WORK, NAME, '')
  call('PUBLISH', PREFIX .. ':all', 'work ' .. NAME .. ' ' .. OWNER)
end

-- the watchers that live, save the holder
local function watchers(holder)
  local found = {}
  for _, watcher in ipairs(call('SMEMBERS', WATCH)) do
    if watcher ~= holder and lives(watcher) then
      found[#found + 1] = watcher
    end
  end
  return found
end

-- whether others watch the log; they are told to look
local function tell_watchers()
  local found = watchers(OWNER)
  for _, watcher in ipairs(found) do
    tell(watcher, 'events')
  end
  return #found > 0 and 1 or 0
end

-- --- unfinished turns

local function in_queue(queue, id)
  return string.find(' ' .. queue .. ' ', ' ' .. id .. ' ', 1, true)
end

local function listed(queue)
  local ids = {}
  for id in string.gmatch(queue, '%S+') do
    ids[#ids + 1] = id
  end
  return ids
end

local function without(queue, id)
  local left = {}
  for _, each in ipairs(listed(queue)) do
    if each ~= id then
      left[#left + 1] = each
    end
  end
  return table.concat(left, ' ')
end

-- --- how long it is kept

local function clear()
  call('UNLINK', IDS, SAID, STATES, LOG, INBOX, WATCH)
end

local function rest(ttl)
  ttl = tonumber(ttl) or SESSION_MS
  call('PEXPIRE', SESSION, ttl)
  call('PEXPIRE', LOG, math.min(ttl, EVENTS_MS))
end

local function wake()
  call('PERSIST', SESSION)
  call('PERSIST', LOG)
end

-- --- the log

local function header(batch)
  local epoch, last, at = struct.unpack('>I8I8I4', batch)
  return epoch, last, at
end

local function drop_batch()
  local epoch, last = header(call('LPOP', LOG))
  call('HSET', SESSION, 'b', int(epoch) .. '-' .. int(last))
end

-- What keeps events from being added to a log that ends at (`epoch`, `seq`), or nil.
-- gap: what the owner wrote before them is lost. It shall claim the session anew.
local function add_events(first, last, batch, epoch, seq)
  if first > seq + 1 then
    offer()
    return 'gap'
  elseif first <= seq then
    return 'behind'
  end
  local head = struct.pack('>I8I8I4', tonumber(EPOCH), last, math.floor(now / 1000))
  local length = call('RPUSH', LOG, head .. batch)
  if length == 1 and seq > 0 then
    call('HSET', SESSION, 'b', epoch .. '-' .. int(seq))
  end
  if length > BATCHES_MAX then
    drop_batch()
  end
end

local function ended(head)
  return string.sub(head, 1, 1) == 'E'
end

-- A turn's head with the place before its first event, if that was `seq` in a log that ended at
-- (`epoch`, `end_seq`) before the owner's newest events; as it was if it has a place.
local function placed(head, seq, epoch, end_seq)
  if seq == '' or string.sub(head, 2, 17) ~= NOWHERE then
    return head
  end
  seq = tonumber(seq)
  local of = tonumber(seq > tonumber(end_seq) and EPOCH or epoch)
  return string.sub(head, 1, 1) .. struct.pack('>I8I8', of, seq) .. string.sub(head, 18)
end

-- Other turns whose first event is perhaps in the newest batch: KEYS from `first_key`, the places
-- before those events ARGV from `first_arg`.
local function place_others(first_key, first_arg, epoch, end_seq)
  for i = 0, #KEYS - first_key do
    local head = call('GETRANGE', KEYS[first_key + i], 0, HEAD_END)
    if head ~= '' then
      call('SETRANGE', KEYS[first_key + i], 0, placed(head, ARGV[first_arg + i], epoch, end_seq))
    end
  end
end

-- --- what agents keep

local function described(hash, name)
  local about = call('HGET', hash, name)
  if not about then
    return nil
  end
  local version, seen_, parts, form = string.match(about, '^(%d+) (%d+) (%d+) (.*)$')
  return {version = version, seen = tonumber(seen_), parts = tonumber(parts), form = form}
end

local function as_text(about)
  return about.version .. ' ' .. int(about.seen) .. ' ' .. about.parts .. ' ' .. about.form
end

local function names_of(name, parts)
  local names = {}
  for i = 1, parts do
    names[i] = name .. ':' .. i
  end
  return names
end

local function parts_of(hash, name, about)
  return call('HMGET', hash, unpack(names_of(name, about.parts)))
end

-- Replace a state, or add to it: what is added is a part of its own, until they are joined.
local function keep_state(hash, name, form, data, grows, seen_)
  local about = described(hash, name)
  local parts = about and about.parts or 0
  local stays = about and grows and about.form == form
  if parts > 0 and (not stays or parts == PARTS_MAX) then
    if stays then
      data = table.concat(parts_of(hash, name, about)) .. data
    end
    call('HDEL', hash, unpack(names_of(name, parts)))
    parts = 0
  end
  parts = parts + 1
  local text = as_text({version = now_text, seen = seen_, parts = parts, form = form})
  call('HSET', hash, name, text, name .. ':' .. parts, data)
end

-- The checkpoint of a turn, else the agent's state; with the entries that it has not seen.
local function loaded(extra, agent, has_states, dropped)
  local hash, name, about = extra, 'check', described(extra, 'check')
  if not about and has_states then
    hash, name, about = STATES, agent, described(STATES, agent)
  end
  if not about then
    return {'0', '', {}, call('LRANGE', SAID, 0, -1)}
  end
  local first = math.max(0, about.seen - (tonumber(dropped) or 0))
  return {about.version, about.form, parts_of(hash, name, about), call('LRANGE', SAID, first, -1)}
end
