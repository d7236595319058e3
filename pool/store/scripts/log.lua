-- What scripts about a session's log have behind session.lua.

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

-- A turn's head with the place before its first event, if that was `seq` in a log that ended at
-- (`epoch`, `end_seq`) before the owner's newest events; as it was if it has a place, or `seq` is -1.
local function placed(head, seq, epoch, end_seq)
  if seq < 0 or string.sub(head, 2, 17) ~= NOWHERE then
    return head
  end
  local of = tonumber(seq > tonumber(end_seq) and EPOCH or epoch)
  return string.sub(head, 1, 1) .. struct.pack('>I8I8', of, seq) .. string.sub(head, 18)
end

-- Other turns whose first event is perhaps in the newest batch: KEYS from `first_key`, the places
-- before those events `starts`.
local function place_others(first_key, starts, epoch, end_seq)
  for i, start in ipairs(starts) do
    local key = KEYS[first_key + i - 1]
    local head = call('GETRANGE', key, 0, HEAD_END)
    if head ~= '' then
      call('SETRANGE', key, 0, placed(head, start, epoch, end_seq))
    end
  end
end
