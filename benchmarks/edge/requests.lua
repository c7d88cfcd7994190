-- Requests round robin over the hosts of as many routes as told: wrk -s requests.lua URL -- ROUTES COOKIE
local requests, at = {}, 0

function init(args)
  local routes, cookie = tonumber(args[1]), args[2]
  local seed = 7
  -- At most 2,000 different ones, in no order that a proxy could keep warm by accident.
  for n = 1, math.min(routes, 2000) do
    seed = (seed * 1103515245 + 12345) % 2147483648
    local number = routes <= 2000 and n - 1 or seed % routes
    local host = "jupyterlab--w" .. number .. "--ada.localhost"
    requests[n] = wrk.format("GET", "/lab", { Host = host, Cookie = cookie })
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "RESULT %d %d %.0f %.0f %d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
