-- What every script about one session has behind common.lua.
--
-- KEYS, all of one partition {p} and so of one slot; <s> is ap:{p}:s:<tenant>:<session id>
--   1 <s>          HASH  the session; it is there as long as this key is:
--       a          all that most steps need, packed: see LAYOUT
--       c          when it was made, in microseconds
--       i          what it was made with (msgpack); absent: nothing
--       b          <epoch>-<place> of the newest event that was dropped; absent: none was
--       d          how many entries of the transcript were dropped
--       lr         how many of its letters were read
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
-- ARGV: 1 a row (msgpack): <tenant>:<session id>; owner, or ""; its epoch (of scripts that claim: see
--   there), or 0; what else the script takes  2... what it takes as bytes: msgpack of Redis before 8
--   has none

local SESSION, IDS, SAID, STATES, LOG, INBOX, WATCH, WORK, ALIVE = unpack(KEYS, 1, 9)
local ROW = cmsgpack.unpack(ARGV[1])
local NAME, OWNER, EPOCH = ROW[1], ROW[2], ROW[3]
-- how many turns it has accepted, and how many of their records are gone; how many letters there have
-- been; its last holder's epoch; the end of the log: epoch and place of the newest event; when it was
-- used last, and its upkeep done, in microseconds; its own time to live in ms (0: it has none); 1 or 0:
-- it is held now, agents keep states, somebody watches, turns have had something besides; its last
-- holder; ids of its unfinished turns, in the order of acceptance, with spaces between
local LAYOUT = '>I4I4I4I8I8I8I8I8I8BBBBI2c0s'
-- no place
local NOWHERE = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
-- the last byte before a turn's record
local HEAD_END = 20

-- the session as it is, or nil
local it
local packed = call('HGET', SESSION, 'a')
if packed then
  local accepted, gone, letters, epoch, end_epoch, end_seq, used, kept, ttl, held, states, watched,
    besides, owner, queue = struct.unpack(LAYOUT, packed)
  it = {
    accepted = accepted, gone = gone, letters = letters, epoch = epoch, end_epoch = end_epoch,
    end_seq = end_seq, used = used, kept = kept, ttl = ttl, held = held, states = states,
    watched = watched, besides = besides, owner = owner, queue = queue,
  }
end

local function save()
  call('HSET', SESSION, 'a', struct.pack(LAYOUT, it.accepted, it.gone, it.letters, it.epoch,
    it.end_epoch, it.end_seq, it.used, it.kept, it.ttl, it.held, it.states, it.watched, it.besides,
    #it.owner, it.owner, it.queue))
end

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

local function ended(head)
  return string.sub(head, 1, 1) == 'E'
end
