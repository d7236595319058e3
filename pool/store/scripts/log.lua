-- What scripts about a session's log have behind session.lua.

local function header(batch)
  local epoch, last, at = struct.unpack('>I8I8I4', batch)
  return epoch, last, at
end

local function drop_batch()
  local epoch, last = header(call('LPOP', LOG))
  call('HSET', SESSION, 'b', int(epoch) .. '-' .. int(last))
end
