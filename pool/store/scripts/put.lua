-- Keep documents of a kind.
--
-- KEYS: see filing.lua
-- ARGV: id, document, and so on
for i = 1, #ARGV, 2 do
  file(ARGV[i], ARGV[i + 1])
end
count_change()
