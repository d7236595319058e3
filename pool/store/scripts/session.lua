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
--       s, w, x    1: agents keep states; somebody watches; turns have had something besides
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
local NOWHERE = string.rep('\0', 16)
-- the last byte before a turn's record
local HEAD_END = 20

-- the values of a row, of scripts that take one
local function row()
  return unpack(cmsgpack.unpack(ARGV[4]))
end

local function fields(...)
  return unpack(call('HMGET', SESSION, ...))
end

-- --- owners

local function lives(owner)
  local till = call('HGET', ALIVE, owner)
  return till and tonumber(till) > now
end

-- those who live are kept alive by their heart; here is seen to it that they are known
local function seen(owner)
  if not lives(owner) then
    call('HSET', ALIVE, owner, int(now + LEASE_MS))
  end
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

-- --- turns

local function ended(head)
  return string.sub(head, 1, 1) == 'E'
end

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

-- what would expire stays, from its next turn on (session) and that one's first event (log)
local function rest(ttl)
  ttl = tonumber(ttl) or SESSION_MS
  call('PEXPIRE', SESSION, int(ttl))
  call('PEXPIRE', LOG, int(math.min(ttl, EVENTS_MS)))
end
