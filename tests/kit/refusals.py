"""The words in which each exchange refuses a client that asks over REST too often, some of them under HTTP 200."""

LIMITS = {
    "upbit": ['{"error":{"name":"too_many_requests","message":"Too many API requests."}}'],
    "bithumb": ['{"error":{"name":"too_many_requests","message":"..."}}'],
    "coinone": ['{"result":"error","error_code":"4","error_msg":"Blocked user access"}'],
    "korbit": ['{"success":false,"error":{"code":429,"message":"EXCEED_TIME_WINDOW"}}'],
    "okx": ['{"code":"50011","data":[],"msg":"Too Many Requests"}', '{"msg":"Systems are busy.","code":"50013"}'],
    "bybit": ['{"retCode":10006,"retMsg":"Too many visits!","result":{},"retExtInfo":{},"time":1675307914985}'],
    "gateio": ['{"label":"TOO_MANY_REQUESTS","message":"Request Rate limit Exceeded"}'],
    "binance": ['{"code":-1003,"msg":"Too many requests; current limit is 6000 request weight per 1 MINUTE."}'],
    "kraken": ['{"error":["EGeneral:Too many requests"]}', '{"error":["EService:Unavailable"],"result":null}'],
    "coinbase": ['{"message":"Public rate limit exceeded"}'],
}
